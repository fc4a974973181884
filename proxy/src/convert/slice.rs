//! `EndpointSlice`s.
//!
//! A slice with a mistake is refused whole: which of its endpoints to leave out is not ours to guess.

use std::sync::Arc;

use super::objects::{self, EndpointHints, EndpointSlice, Hint, Port};
use super::{Fault, FieldError, Names, Object, PassedOver, Verdict};
use super::{ip, is_of, port, port_name, protocol};
use crate::model::{Hints, Slice, SliceEndpoint, SlicePort, Trigger, Triggered};

/// Converts an `EndpointSlice`.
///
/// # Errors
/// The first field that cannot be used.
pub fn slice(object: &EndpointSlice, names: &mut Names) -> Result<Verdict, FieldError> {
    let labels = &object.metadata.labels;
    if labels.headless.is_some() {
        return Ok(Verdict::Ignored("it is of a headless Service (label service.kubernetes.io/headless)"));
    }
    let Some(service) = labels.service_name.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(Verdict::Stray(Fault::Missing.at("metadata.labels[kubernetes.io/service-name]")));
    };
    match object.address_type.as_str() {
        "IPv4" | "IPv6" => {}
        "" => return Err(Fault::Missing.at("addressType")),
        _ => return Ok(Verdict::Ignored("its addresses are not IP addresses (addressType)")),
    }
    let mut ports = Vec::with_capacity(object.ports.len());
    for (index, port) in object.ports.iter().enumerate() {
        ports.extend(slice_port(index, port, names)?);
    }
    let mut endpoints = Vec::with_capacity(object.endpoints.len());
    for index in 0..object.endpoints.len() {
        endpoints.push(endpoint(object, index, names)?);
    }
    let slice = Slice { service: service.into(), ports, endpoints, trigger: trigger(object) };
    Ok(PassedOver::default().verdict(Object::Slice(slice.into())))
}

/// A port without a number (or 0) is passed over: it stands for all ports, which only a headless Service can use.
fn slice_port(index: usize, object: &Port, names: &mut Names) -> Result<Option<SlicePort>, FieldError> {
    let Some(number) = object.port.filter(|&number| number != 0) else { return Ok(None) };
    Ok(Some(SlicePort {
        name: port_name(object, names),
        protocol: protocol(object).map_err(|fault| fault.at(format!("ports[{index}].protocol")))?,
        port: port(number).map_err(|fault| fault.at(format!("ports[{index}].port")))?,
    }))
}

/// One that cannot be read is none: nothing but a metric depends on it.
fn trigger(object: &EndpointSlice) -> Triggered {
    let at = object.metadata.annotations.last_change_trigger_time.as_deref().and_then(|at| at.parse().ok());
    Triggered(at.map(|at| Box::new(Trigger { at, is_ipv6: object.address_type == "IPv6" })))
}

fn endpoint(slice: &EndpointSlice, index: usize, names: &mut Names) -> Result<SliceEndpoint, FieldError> {
    let object = &slice.endpoints[index];
    let address = object.addresses.first().ok_or(Fault::Missing).and_then(|text| ip(text));
    let address = address.and_then(|address| match is_of(address, &slice.address_type) {
        true => Ok(address),
        false => Err(Fault::Family { address, family: slice.address_type.clone() }),
    });
    let objects::Conditions { ready, serving, terminating } = object.conditions;
    Ok(SliceEndpoint {
        address: address.map_err(|fault| fault.at(format!("endpoints[{index}].addresses[0]")))?,
        ready: ready.unwrap_or(true),
        serving: serving.unwrap_or(true),
        terminating: terminating.unwrap_or(false),
        node: object.node_name.as_deref().filter(|name| !name.is_empty()).map(|name| names.share(name)),
        hints: hints(&object.hints, names),
    })
}

fn hints(object: &EndpointHints, names: &mut Names) -> Option<Box<Hints>> {
    let mut shared =
        |hints: &[Hint]| -> Vec<Arc<str>> { hints.iter().map(|hint| names.share(&hint.name)).collect() };
    let hints = Hints { nodes: shared(&object.for_nodes), zones: shared(&object.for_zones) };
    (hints != Hints::default()).then(|| Box::new(hints))
}

#[cfg(test)]
mod tests;
