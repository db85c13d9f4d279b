//! One line for an error and all its causes: sources are kept out of Display, so whoever logs walks them.

use std::{error::Error, fmt};

/// `error: cause: cause of the cause`
#[derive(Debug, Clone, Copy)]
pub struct Report<'e>(pub &'e (dyn Error + 'static));

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceError;

    #[test]
    fn every_cause_is_told_once() {
        let error = SourceError::Unavailable("connection refused".into());
        assert_eq!(Report(&error).to_string(), "source unavailable: connection refused");
    }
}
