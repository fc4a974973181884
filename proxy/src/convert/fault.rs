//! What can be wrong with an object, and where in it.
//!
//! Not which object it is: whoever reports the error knows that. Invariant: the text names the field as Kubernetes
//! does and shows what was there.

use std::net::IpAddr;

use thiserror::Error;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The field has to be there.
    #[error("missing")]
    Missing,
    /// A number that the field may not have.
    #[error("{value} is not {expected}")]
    Number {
        /// What was there.
        value: i64,
        /// What could be.
        expected: &'static str,
    },
    /// Not one of the values that the field may have.
    #[error("{value:?} is not {expected}")]
    Value {
        /// What was there.
        value: String,
        /// What could be.
        expected: &'static str,
    },
    /// An address of another family than the object says.
    #[error("{address} is not an {family} address")]
    Family {
        /// What was there.
        address: IpAddr,
        /// `IPv4` or `IPv6`.
        family: String,
    },
    /// A second address where one of each family may be.
    #[error("{address} is a second address of its family")]
    SecondOfFamily {
        /// What was there.
        address: IpAddr,
    },
    /// Not of the JSON type that Kubernetes gives the field.
    #[error("{message}")]
    Shape {
        /// What serde says.
        message: String,
    },
}

/// A field that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {fault}")]
pub struct FieldError {
    /// Its path, such as `spec.ports[1].port`.
    pub field: String,
    /// What is wrong with it.
    #[source]
    pub fault: Fault,
}

impl Fault {
    /// The fault of a text that should have been something else.
    pub fn value(value: &str, expected: &'static str) -> Self {
        Self::Value { value: value.to_owned(), expected }
    }

    /// This fault in a field.
    pub fn at(self, field: impl Into<String>) -> FieldError {
        FieldError { field: field.into(), fault: self }
    }
}
