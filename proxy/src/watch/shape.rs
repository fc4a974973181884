//! JSON and YAML into objects of Kubernetes' shape.
//!
//! Not where fields are understood (that is [`convert`](crate::convert)). Pure. Invariant: a document that has another shape is
//! refused with the field that has it, in words that stay the same as long as that field does.

use serde::{Deserialize, Deserializer};

use crate::convert::{Fault, FieldError};

/// Reads an object.
///
/// # Errors
/// The first field that is not of the type that Kubernetes gives it.
pub(super) fn read<'de, D: Deserializer<'de>, T: Deserialize<'de>>(document: D) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(document).map_err(|error| {
        let field = error.path().to_string();
        let field = if field == "." { "the document".to_owned() } else { field };
        let message = error.inner().to_string();
        Fault::Shape { message: without_position(&message).to_owned() }.at(field)
    })
}

/// JSON's errors end with a place in the text. It would make another error of the same one each time that the object changes
/// anywhere before it.
fn without_position(message: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match message.rsplit_once(" at line ") {
        Some((message, place)) if place.split(" column ").all(is_number) => message,
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::objects::Service;

    fn fault(json: &str) -> String {
        read::<_, Service>(&mut serde_json::Deserializer::from_str(json)).unwrap_err().to_string()
    }

    #[test]
    fn the_field_and_what_was_there_are_named_wherever_in_the_text_they_stand() {
        let expected = "spec.ports: invalid type: string \"80\", expected a sequence";
        assert_eq!(fault(r#"{"spec": {"ports": "80"}}"#), expected);
        assert_eq!(fault(r#"{"status": {}, "spec": {"clusterIP": "10.0.0.1", "ports": "80"}}"#), expected);
        assert_eq!(fault("7"), "the document: invalid type: integer `7`, expected struct Service");
    }

    #[test]
    fn what_only_looks_like_a_place_is_kept() {
        for text in ["x at line one", "x at line ", "x at line 1 column y"] {
            assert_eq!(without_position(text), text);
        }
        assert_eq!(without_position("x at line 1 column 23"), "x");
    }
}
