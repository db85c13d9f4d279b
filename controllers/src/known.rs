//! What was read from the world: absent, unknown and known are three things.

/// A fact that may not be known. Silence is not absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Known<T> {
    /// Known not to be there.
    Absent,
    /// Nobody answered.
    #[default]
    Unknown,
    /// Known.
    Is(T),
}

impl<T> Known<T> {
    /// The fact, if known.
    pub fn is(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Unknown => None,
        }
    }
}
