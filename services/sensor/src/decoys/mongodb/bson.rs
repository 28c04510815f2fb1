//! Documents of MongoDB: only so deep and so many fields.

use crate::decoys::wire::{Bytes, text};

/// How deep documents may nest.
const DEEPEST: usize = 24;
/// The most fields of a message in all.
const MOST: usize = 20_000;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Bson {
    Double(f64),
    Text(String),
    Doc(Doc),
    Array(Vec<Bson>),
    Binary(u8, Vec<u8>),
    Id([u8; 12]),
    Bool(bool),
    Date(i64),
    Null,
    Regex(String, String),
    Int(i32),
    Time(u64),
    Long(i64),
    Decimal([u8; 16]),
    Min,
    Max,
}

/// Fields in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Doc(pub(super) Vec<(String, Bson)>);

impl Doc {
    /// A field more.
    pub(super) fn with(mut self, name: &str, value: impl Into<Bson>) -> Doc {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// A field.
    pub(super) fn get(&self, name: &str) -> Option<&Bson> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// A field that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Bson::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A field that is a document.
    pub(super) fn doc(&self, name: &str) -> Option<&Doc> {
        match self.get(name)? {
            Bson::Doc(doc) => Some(doc),
            _ => None,
        }
    }

    /// A field that is documents.
    pub(super) fn docs(&self, name: &str) -> Vec<&Doc> {
        match self.get(name) {
            Some(Bson::Array(items)) => items
                .iter()
                .filter_map(|item| match item {
                    Bson::Doc(doc) => Some(doc),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// A field that is a number.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.get(name)?.whole()
    }

    /// A field inside others, by a name with dots.
    pub(super) fn path(&self, path: &str) -> Option<&Bson> {
        let mut parts = path.split('.').take(DEEPEST);
        let mut value = self.get(parts.next()?)?;
        for part in parts {
            value = match value {
                Bson::Doc(doc) => doc.get(part)?,
                Bson::Array(items) => items.get(part.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// Puts a field in the place of one with that name.
    pub(super) fn set(&mut self, name: &str, value: Bson) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + 32 + value.size()).sum()
    }

    /// From bytes.
    pub(super) fn read(bytes: &mut Bytes<'_>) -> Option<Doc> {
        let mut left = MOST;
        document(bytes, 0, &mut left)
    }

    /// As bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend([0; 4]);
        for (name, value) in &self.0 {
            value.write(name, out);
        }
        out.push(0);
        finish(out, begin);
    }
}

fn finish(out: &mut [u8], begin: usize) {
    let length = u32::try_from(out.len() - begin).unwrap_or(0).to_le_bytes();
    if let Some(place) = out.get_mut(begin..begin + 4) {
        place.copy_from_slice(&length);
    }
}

fn document(bytes: &mut Bytes<'_>, depth: usize, left: &mut usize) -> Option<Doc> {
    if depth > DEEPEST {
        return None;
    }
    let length = usize::try_from(bytes.le32()?).ok()?.checked_sub(4)?;
    let mut inner = Bytes(bytes.take(length)?);
    let mut doc = Doc::default();
    loop {
        let kind = inner.byte()?;
        if kind == 0 {
            return Some(doc);
        }
        *left = left.checked_sub(1)?;
        let name = text(inner.until_zero()?);
        let sized = |inner: &mut Bytes<'_>| -> Option<String> {
            let length = usize::try_from(inner.le32()?).ok()?;
            let bytes = inner.take(length)?;
            Some(text(bytes.strip_suffix(&[0])?))
        };
        let value = match kind {
            0x01 => Bson::Double(f64::from_le_bytes(inner.array()?)),
            0x02 | 0x0d | 0x0e => Bson::Text(sized(&mut inner)?),
            0x03 => Bson::Doc(document(&mut inner, depth + 1, left)?),
            0x04 => Bson::Array(document(&mut inner, depth + 1, left)?.0.into_iter().map(|(_, value)| value).collect()),
            0x05 => {
                let length = usize::try_from(inner.le32()?).ok()?;
                let kind = inner.byte()?;
                Bson::Binary(kind, inner.take(length)?.to_vec())
            }
            0x07 => Bson::Id(inner.array()?),
            0x08 => Bson::Bool(inner.byte()? != 0),
            0x09 => Bson::Date(i64::from_le_bytes(inner.array()?)),
            0x06 | 0x0a => Bson::Null,
            0x0b => Bson::Regex(text(inner.until_zero()?), text(inner.until_zero()?)),
            0x10 => Bson::Int(i32::from_le_bytes(inner.array()?)),
            0x11 => Bson::Time(u64::from_le_bytes(inner.array()?)),
            0x12 => Bson::Long(i64::from_le_bytes(inner.array()?)),
            0x13 => Bson::Decimal(inner.array()?),
            0xff => Bson::Min,
            0x7f => Bson::Max,
            _ => return None,
        };
        doc.0.push((name, value));
    }
}

impl Bson {
    /// As a whole number, when it is a number or a truth.
    pub(super) fn whole(&self) -> Option<i64> {
        Some(match self {
            Bson::Int(number) => i64::from(*number),
            Bson::Long(number) => *number,
            #[allow(clippy::cast_possible_truncation, reason = "`as` saturates")]
            Bson::Double(number) => *number as i64,
            Bson::Bool(truth) => i64::from(*truth),
            _ => return None,
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "good enough to compare")]
    pub(super) fn real(&self) -> Option<f64> {
        Some(match self {
            Bson::Int(number) => f64::from(*number),
            Bson::Long(number) | Bson::Date(number) => *number as f64,
            Bson::Double(number) => *number,
            _ => return None,
        })
    }

    fn size(&self) -> usize {
        match self {
            Bson::Text(text) => text.len(),
            Bson::Binary(_, bytes) => bytes.len(),
            Bson::Doc(doc) => doc.size(),
            Bson::Array(items) => items.iter().map(|item| 32 + item.size()).sum(),
            _ => 16,
        }
    }

    fn write(&self, name: &str, out: &mut Vec<u8>) {
        let kind = match self {
            Bson::Double(_) => 0x01,
            Bson::Text(_) => 0x02,
            Bson::Doc(_) => 0x03,
            Bson::Array(_) => 0x04,
            Bson::Binary(..) => 0x05,
            Bson::Id(_) => 0x07,
            Bson::Bool(_) => 0x08,
            Bson::Date(_) => 0x09,
            Bson::Null => 0x0a,
            Bson::Regex(..) => 0x0b,
            Bson::Int(_) => 0x10,
            Bson::Time(_) => 0x11,
            Bson::Long(_) => 0x12,
            Bson::Decimal(_) => 0x13,
            Bson::Min => 0xff,
            Bson::Max => 0x7f,
        };
        out.push(kind);
        out.extend(name.bytes().filter(|byte| *byte != 0));
        out.push(0);
        let zero = |text: &str, out: &mut Vec<u8>| {
            out.extend(text.bytes().filter(|byte| *byte != 0));
            out.push(0);
        };
        match self {
            Bson::Double(number) => out.extend(number.to_le_bytes()),
            Bson::Text(text) => {
                out.extend(u32::try_from(text.len() + 1).unwrap_or(1).to_le_bytes());
                out.extend(text.bytes());
                out.push(0);
            }
            Bson::Doc(doc) => doc.write(out),
            Bson::Array(items) => {
                let begin = out.len();
                out.extend([0; 4]);
                for (at, item) in items.iter().enumerate() {
                    item.write(&at.to_string(), out);
                }
                out.push(0);
                finish(out, begin);
            }
            Bson::Binary(kind, bytes) => {
                out.extend(u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
                out.push(*kind);
                out.extend(bytes);
            }
            Bson::Id(id) => out.extend(id),
            Bson::Bool(truth) => out.push(u8::from(*truth)),
            Bson::Date(number) | Bson::Long(number) => out.extend(number.to_le_bytes()),
            Bson::Regex(pattern, flags) => {
                zero(pattern, out);
                zero(flags, out);
            }
            Bson::Int(number) => out.extend(number.to_le_bytes()),
            Bson::Time(number) => out.extend(number.to_le_bytes()),
            Bson::Decimal(bytes) => out.extend(bytes),
            Bson::Null | Bson::Min | Bson::Max => {}
        }
    }

    /// For people, in the manner of JSON.
    pub(super) fn shown(&self) -> serde_json::Value {
        use serde_json::{Value, json};
        match self {
            Bson::Double(number) => json!(number),
            Bson::Text(text) => json!(text),
            Bson::Doc(doc) => doc.shown(),
            Bson::Array(items) => Value::Array(items.iter().map(Bson::shown).collect()),
            Bson::Binary(_, bytes) => json!({ "$binary": hex::encode(bytes) }),
            Bson::Id(id) => json!({ "$oid": hex::encode(id) }),
            Bson::Bool(truth) => json!(truth),
            Bson::Date(time) => json!({ "$date": time }),
            Bson::Regex(pattern, flags) => json!({ "$regex": pattern, "$options": flags }),
            Bson::Int(number) => json!(number),
            Bson::Time(number) => json!({ "$timestamp": number }),
            Bson::Long(number) => json!(number),
            Bson::Null | Bson::Decimal(_) | Bson::Min | Bson::Max => Value::Null,
        }
    }
}

impl Doc {
    /// For people, in the manner of JSON.
    pub(super) fn shown(&self) -> serde_json::Value {
        serde_json::Value::Object(self.0.iter().map(|(name, value)| (name.clone(), value.shown())).collect())
    }
}

impl From<&str> for Bson {
    fn from(text: &str) -> Bson {
        Bson::Text(text.to_owned())
    }
}

impl From<String> for Bson {
    fn from(text: String) -> Bson {
        Bson::Text(text)
    }
}

impl From<f64> for Bson {
    fn from(number: f64) -> Bson {
        Bson::Double(number)
    }
}

impl From<i32> for Bson {
    fn from(number: i32) -> Bson {
        Bson::Int(number)
    }
}

impl From<i64> for Bson {
    fn from(number: i64) -> Bson {
        Bson::Long(number)
    }
}

impl From<bool> for Bson {
    fn from(truth: bool) -> Bson {
        Bson::Bool(truth)
    }
}

impl From<Doc> for Bson {
    fn from(doc: Doc) -> Bson {
        Bson::Doc(doc)
    }
}

impl From<Vec<Bson>> for Bson {
    fn from(items: Vec<Bson>) -> Bson {
        Bson::Array(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let doc = Doc::default()
            .with("a", 1)
            .with("b", "x")
            .with("c", Doc::default().with("d", vec![Bson::Null, Bson::Bool(true), Bson::Id([7; 12])]))
            .with("e", 2.5)
            .with("f", Bson::Binary(0, vec![1, 2]));
        let mut out = Vec::new();
        doc.write(&mut out);
        assert_eq!(Doc::read(&mut Bytes(&out)), Some(doc.clone()));
        assert_eq!(doc.path("c.d.1"), Some(&Bson::Bool(true)));
    }

    #[test]
    fn deep_documents_are_refused() {
        let mut doc = Doc::default();
        for _ in 0..100 {
            doc = Doc::default().with("a", doc);
        }
        let mut out = Vec::new();
        doc.write(&mut out);
        assert_eq!(Doc::read(&mut Bytes(&out)), None);
        assert_eq!(Doc::read(&mut Bytes(&[0xff, 0xff, 0xff, 0x7f, 1])), None);
        assert_eq!(Doc::read(&mut Bytes(&[1, 0, 0, 0])), None);
    }
}
