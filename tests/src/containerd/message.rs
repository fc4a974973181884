//! Protocol buffers by hand: enough for a dozen messages, without a compiler of their definitions.
//!
//! It is no library: numbers and lengths only, which is all that CRI uses. Source: the encoding's specification.

/// A message that is being written. Fields that have their default are left out by the caller, or not, as it likes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    pub(crate) fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    pub(crate) fn encoded(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

/// The fields of a message that was read, in their order: numbers, and what has a length.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields(Vec<(u64, Field)>);

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Fields {
    /// None when it is no message.
    pub(crate) fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let value = match tag & 7 {
                0 => Field::Number(varint(&mut bytes)?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    let (value, rest) = bytes.split_at_checked(length)?;
                    bytes = rest;
                    Field::Bytes(value.to_vec())
                }
                _ => return None,
            };
            fields.push((tag >> 3, value));
        }
        Some(Self(fields))
    }

    /// The number of a field; its default when it is left out.
    pub(crate) fn number(&self, field: u64) -> u64 {
        let number = |(at, value): &(u64, Field)| match value {
            Field::Number(number) if *at == field => Some(*number),
            _ => None,
        };
        self.0.iter().find_map(number).unwrap_or_default()
    }

    pub(crate) fn text(&self, field: u64) -> String {
        self.all(field).next().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    }

    /// The message in a field; an empty one when it is left out.
    pub(crate) fn message(&self, field: u64) -> Self {
        self.messages(field).next().unwrap_or_default()
    }

    pub(crate) fn messages(&self, field: u64) -> impl Iterator<Item = Self> {
        self.all(field).filter_map(Self::read)
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(move |(at, value)| match value {
            Field::Bytes(bytes) if *at == field => Some(bytes.as_slice()),
            _ => None,
        })
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of the encoding's own documentation.
    #[test]
    fn numbers_texts_and_messages_are_written_and_read() {
        let inner = Message::default().number(1, 150);
        assert_eq!(inner.encoded(), [0x08, 0x96, 0x01]);
        let outer = Message::default().bytes(2, "testing").message(3, &inner);
        let fields = Fields::read(outer.encoded()).unwrap();
        assert_eq!(
            (fields.text(2).as_str(), fields.message(3).number(1), fields.number(9)),
            ("testing", 150, 0)
        );
        assert_eq!(Fields::read(&[0x12, 0x07, b't']), None);
    }
}
