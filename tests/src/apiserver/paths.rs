//! Reading and setting fields of objects by dotted path, without a way to panic on what a client sent.

use serde_json::{Map, Value};

/// The value at `path`, or null.
pub(crate) fn find<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, field| &value[field])
}

/// The string at `path`, or nothing.
pub(crate) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    find(object, path).as_str().unwrap_or_default()
}

/// The strings of the list at `path`.
pub(crate) fn texts<'a>(object: &'a Value, path: &str) -> Vec<&'a str> {
    items(object, path).iter().filter_map(Value::as_str).collect()
}

/// The entries of the list at `path`.
pub(crate) fn items<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    find(object, path).as_array().map_or(&[], Vec::as_slice)
}

/// The entries of the list at `path`, to be changed.
pub(crate) fn items_mut<'a>(object: &'a mut Value, path: &str) -> &'a mut [Value] {
    let pointer = format!("/{}", path.replace('.', "/"));
    object.pointer_mut(&pointer).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// The map at `object`, made if something else stands there.
pub(crate) fn map(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    match object {
        Value::Object(map) => map,
        _ => unreachable!("it was made a map above"),
    }
}

/// Sets the value at `path`, with the maps on the way.
pub(crate) fn set(object: &mut Value, path: &str, value: impl Into<Value>) {
    let place = path.split('.').fold(object, |value, field| map(value).entry(field).or_insert(Value::Null));
    *place = value.into();
}

/// Sets the value at `path` unless there is one already; an empty string counts as none.
pub(crate) fn set_default(object: &mut Value, path: &str, value: impl Into<Value>) {
    if is_unset(find(object, path)) {
        set(object, path, value);
    }
}

/// Removes the value at `path` and returns it.
pub(crate) fn remove(object: &mut Value, path: &str) -> Option<Value> {
    let (parent, field) = path.rsplit_once('.').unwrap_or(("", path));
    let pointer = if parent.is_empty() { String::new() } else { format!("/{}", parent.replace('.', "/")) };
    object.pointer_mut(&pointer)?.as_object_mut()?.remove(field)
}

/// Whether Go's `omitempty` would drop it.
pub(crate) fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Object(_) => false,
    }
}
