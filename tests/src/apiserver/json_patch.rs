//! RFC 6902: a list of operations, all or none.

use serde_json::Value;

use super::paths::text;
use super::refusal::Refusal;

/// Applies every operation in order. On an error the target is left half done: work on a copy.
pub(crate) fn apply(target: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let operations =
        patch.as_array().ok_or_else(|| Refusal::bad_request("a JSON patch is a list of operations"))?;
    operations.iter().try_for_each(|operation| apply_one(target, operation))
}

fn apply_one(target: &mut Value, operation: &Value) -> Result<(), Refusal> {
    let path = text(operation, "path");
    let from = text(operation, "from");
    let value = operation.get("value").cloned();
    let value =
        || value.ok_or_else(|| Refusal::bad_request(format!("the operation on {path:?} has no value")));
    match text(operation, "op") {
        "add" => add(target, path, value()?),
        "remove" => remove(target, path).map(drop),
        "replace" => {
            *find_mut(target, path)? = value()?;
            Ok(())
        }
        "move" => {
            let moved = remove(target, from)?;
            add(target, path, moved)
        }
        "copy" => {
            let copied = find_mut(target, from)?.clone();
            add(target, path, copied)
        }
        "test" if *find_mut(target, path)? == value()? => Ok(()),
        "test" => Err(Refusal::unfitting_patch(&format!("testing path {path:?} failed"))),
        other => Err(Refusal::bad_request(format!("unknown JSON patch operation {other:?}"))),
    }
}

fn missing(path: &str) -> Refusal {
    Refusal::unfitting_patch(&format!("no value at {path:?}"))
}

fn find_mut<'a>(target: &'a mut Value, path: &str) -> Result<&'a mut Value, Refusal> {
    target.pointer_mut(path).ok_or_else(|| missing(path))
}

/// The parent of a path, and the last token of it, unescaped.
fn parent<'a>(target: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), Refusal> {
    let (parent, token) = path.rsplit_once('/').ok_or_else(|| missing(path))?;
    Ok((find_mut(target, parent)?, token.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), Refusal> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (parent, token) = parent(target, path)?;
    match parent {
        Value::Object(map) => {
            map.insert(token, value);
        }
        Value::Array(items) if token == "-" => items.push(value),
        Value::Array(items) => {
            let index =
                token.parse().ok().filter(|index| *index <= items.len()).ok_or_else(|| missing(path))?;
            items.insert(index, value);
        }
        _ => return Err(missing(path)),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<Value, Refusal> {
    let (parent, token) = parent(target, path)?;
    let removed = match parent {
        Value::Object(map) => map.remove(&token),
        Value::Array(items) => {
            token.parse().ok().filter(|index| *index < items.len()).map(|index: usize| items.remove(index))
        }
        _ => None,
    };
    removed.ok_or_else(|| missing(path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_change_maps_and_lists() {
        let mut target = json!({"metadata": {"labels": {"a/b": "1"}}, "ports": [1, 3]});
        let patch = json!([
            {"op": "test", "path": "/metadata/labels/a~1b", "value": "1"},
            {"op": "replace", "path": "/metadata/labels/a~1b", "value": "2"},
            {"op": "add", "path": "/ports/1", "value": 2},
            {"op": "add", "path": "/ports/-", "value": 4},
            {"op": "remove", "path": "/ports/0"},
            {"op": "copy", "from": "/ports/0", "path": "/first"},
            {"op": "move", "from": "/first", "path": "/moved"},
        ]);
        apply(&mut target, &patch).unwrap();
        assert_eq!(target, json!({"metadata": {"labels": {"a/b": "2"}}, "ports": [2, 3, 4], "moved": 2}));
    }

    #[test]
    fn an_operation_that_finds_nothing_is_refused() {
        for operation in [
            json!({"op": "remove", "path": "/absent"}),
            json!({"op": "replace", "path": "/absent", "value": 1}),
            json!({"op": "add", "path": "/ports/9", "value": 1}),
            json!({"op": "test", "path": "/ports/0", "value": 9}),
        ] {
            let refusal = apply(&mut json!({"ports": [1]}), &json!([operation])).unwrap_err();
            assert_eq!(refusal.code, 422, "{operation}");
        }
        let unknown = apply(&mut json!({}), &json!([{"op": "grow", "path": ""}])).unwrap_err();
        assert_eq!(unknown.code, 400);
    }
}
