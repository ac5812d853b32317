//! Text that the operating system gives as bytes: file names, arguments, directories.
//!
//! JSON holds it as a plain string when it is UTF-8, else as `{"base64": "…"}`, so nothing is lost.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
#[cfg(feature = "schema")]
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema, Type},
};

/// Bytes that are usually text: a file name, an argument, a shell line.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteString(Vec<u8>);

impl ByteString {
    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes, owned.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Returns the text for people, with `U+FFFD` in the place of what is not UTF-8.
    #[must_use]
    pub fn to_lossy(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl From<Vec<u8>> for ByteString {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<String> for ByteString {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for ByteString {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Debug for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Serialize for ByteString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Base64 {
                base64: STANDARD.encode(&self.0),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ByteString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Wire::deserialize(deserializer)? {
            Wire::Text(text) => Ok(text.into()),
            Wire::Bytes(Base64 { base64 }) => {
                STANDARD.decode(base64).map(Self).map_err(de::Error::custom)
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Base64 {
    base64: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wire {
    Text(String),
    Bytes(Base64),
}

#[cfg(feature = "schema")]
impl PartialSchema for ByteString {
    fn schema() -> RefOr<Schema> {
        let bytes = ObjectBuilder::new()
            .property("base64", ObjectBuilder::new().schema_type(Type::String))
            .required("base64");
        OneOfBuilder::new()
            .item(ObjectBuilder::new().schema_type(Type::String))
            .item(bytes)
            .description(Some("Text, or bytes that are not UTF-8 in base64."))
            .into()
    }
}

#[cfg(feature = "schema")]
impl ToSchema for ByteString {
    fn name() -> std::borrow::Cow<'static, str> {
        "ByteString".into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_survive_json(bytes: Vec<u8>) {
            let text = ByteString::from(bytes.clone());
            let json = serde_json::to_string(&text).unwrap();
            let back: ByteString = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back.into_bytes(), bytes);
        }
    }

    #[test]
    fn utf8_is_a_plain_string() {
        assert_eq!(
            serde_json::to_string(&ByteString::from("né")).unwrap(),
            "\"né\""
        );
        let latin1 = ByteString::from(vec![b'n', 0xe9]);
        assert_eq!(
            serde_json::to_string(&latin1).unwrap(),
            r#"{"base64":"buk="}"#
        );
        assert!(serde_json::from_str::<ByteString>(r#"{"base64":"%"}"#).is_err());
    }
}
