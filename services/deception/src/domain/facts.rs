//! What the fields of an event say, as far as something is made of it here.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Most bytes of a text of an attacker that goes into an index.
pub(crate) const MAX_INDEXED: usize = 512;

/// The fields that are known here. A text is what stands there, numbers too; all else is as if it was not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    #[serde(deserialize_with = "text")]
    pub(crate) username: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) password: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) method: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) hassh: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) ja3: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) user_agent: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) client_banner: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) command: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) query: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) kind: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) tool: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) name: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) path: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) sha256: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) size: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) stored_as: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) ttl: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) os_guess: Option<String>,
}

impl Facts {
    /// Reads a JSON object; of what is none, nothing is known.
    pub(crate) fn read(json: &str) -> Facts {
        serde_json::from_str(json).unwrap_or_default()
    }

    /// Whether a login is tried with a key.
    pub(crate) fn is_public_key(&self) -> bool {
        self.method.as_deref() == Some("publickey")
    }
}

/// The text, cut where it is too long for an index.
pub(crate) fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_INDEXED)).unwrap_or_default().to_owned()
}

fn text<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    value.deserialize_any(Text)
}

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        // No database column takes a NUL.
        Ok((!text.is_empty()).then(|| text.replace('\0', "\\x00")))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        while values.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_read_and_the_rest_passed_over() {
        let facts = Facts::read(
            r#"{"username":"root","password":"","size":12,"ttl":"64","other":{"a":[1]},"kind":null,"name":["x",{"y":1}],
                "command":"echo \u0000"}"#,
        );
        let expected = Facts {
            username: Some("root".into()),
            size: Some("12".into()),
            ttl: Some("64".into()),
            command: Some("echo \\x00".into()),
            ..Facts::default()
        };
        assert_eq!(facts, expected);
        for nothing in ["", "null", "[]", "{", "\"text\"", "{\"username\":\"root\""] {
            assert_eq!(Facts::read(nothing), Facts::default(), "{nothing}");
        }
    }

    #[test]
    fn a_cut_text_is_its_beginning() {
        assert_eq!(cut("root"), "root");
        assert_eq!(cut(&"ä".repeat(300)), "ä".repeat(256));
        assert_eq!(cut(&"a".repeat(513)), "a".repeat(512));
    }
}
