//! Resources and attributes.

use serde::{Deserialize, Serialize};

use super::wire_enum;

wire_enum! {
    /// What a value is.
    ValueType {
        /// A number with three decimals.
        Scalar = "SCALAR",
        /// Ranges of whole numbers.
        Ranges = "RANGES",
        /// A set of words.
        Set = "SET",
        /// A text; attributes only.
        Text = "TEXT",
    }
}

/// A number. Mesos keeps three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Scalar {
    /// The number.
    pub value: f64,
}

/// An inclusive range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First number.
    pub begin: u64,
    /// Last number.
    pub end: u64,
}

/// Several ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Ranges {
    /// The ranges.
    #[serde(default)]
    pub range: Vec<Range>,
}

/// Several words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Set {
    /// The words.
    #[serde(default)]
    pub item: Vec<String>,
}

/// A text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Text {
    /// The text.
    pub value: String,
}

/// `Resource.AllocationInfo`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct AllocationInfo {
    /// The role the resource is offered to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// A resource. Fields of kinds not modelled here (reservations, disk sources) are kept verbatim in
/// `other`, so that an offered resource can be given back in ACCEPT exactly as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Resource {
    /// `cpus`, `mem`, `disk`, `ports` ...
    #[serde(default)]
    pub name: String,
    /// Which of the fields below is set.
    #[serde(rename = "type", default)]
    pub kind: ValueType,
    /// For [`ValueType::Scalar`]; `mem` and `disk` in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<Scalar>,
    /// For [`ValueType::Ranges`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
    /// For [`ValueType::Set`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Set>,
    /// The role it is offered to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_info: Option<AllocationInfo>,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl Resource {
    /// A scalar resource.
    pub fn scalar(name: &str, value: f64) -> Self {
        Self {
            name: name.to_owned(),
            kind: ValueType::Scalar,
            scalar: Some(Scalar { value }),
            ..Self::default()
        }
    }

    /// A ranges resource.
    pub fn ranges(name: &str, ranges: &[(u64, u64)]) -> Self {
        let range = ranges.iter().map(|&(begin, end)| Range { begin, end }).collect();
        Self {
            name: name.to_owned(),
            kind: ValueType::Ranges,
            ranges: Some(Ranges { range }),
            ..Self::default()
        }
    }
}

/// An agent's attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Attribute {
    /// Its name; need not be unique.
    #[serde(default)]
    pub name: String,
    /// Which of the fields below is set.
    #[serde(rename = "type", default)]
    pub kind: ValueType,
    /// For [`ValueType::Scalar`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<Scalar>,
    /// For [`ValueType::Ranges`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
    /// For [`ValueType::Set`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Set>,
    /// For [`ValueType::Text`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Text>,
}
