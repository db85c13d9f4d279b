//! Names of roles, and the tree they form.

/// Whether `role` is `ancestor` or lies below it: what is reserved for a role may be offered to those below it.
pub(crate) fn is_within(role: &str, ancestor: &str) -> bool {
    role == ancestor || is_below(role, ancestor)
}

/// Whether `role` lies strictly below `ancestor`.
pub(crate) fn is_below(role: &str, ancestor: &str) -> bool {
    role.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
}

/// What is wrong with the name of a role, in the words of Mesos.
pub(crate) fn fault(role: &str) -> Option<String> {
    if role == "*" {
        return None;
    }
    if role.starts_with('/') {
        return Some(format!("Role '{role}' cannot start with a slash"));
    }
    if role.ends_with('/') {
        return Some(format!("Role '{role}' cannot end with a slash"));
    }
    if role.contains("//") {
        return Some(format!("Role '{role}' cannot contain two adjacent slashes"));
    }
    if role.is_empty() {
        return Some("Role names cannot be the empty string".to_owned());
    }
    role.split('/').find_map(|part| {
        if matches!(part, "." | ".." | "*") {
            Some(format!("Role '{role}' cannot include '{part}' as a component"))
        } else if part.starts_with('-') {
            Some(format!("Role component '{part}' is invalid because it starts with a dash"))
        } else if part.contains(|c: char| matches!(c, '\t'..='\r' | ' ' | '\u{7f}')) {
            Some(format!("Role component '{part}' is invalid because it contains backspace or whitespace"))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_lies_within_itself_and_what_is_above_it() {
        assert!(is_within("eng", "eng") && is_within("eng/web", "eng") && is_within("eng/web/a", "eng"));
        assert!(!is_within("engine", "eng") && !is_within("eng", "eng/web") && !is_below("eng", "eng"));
    }

    #[test]
    fn bad_names_are_refused_in_the_words_of_the_master() {
        let text = |role: &str| fault(role).unwrap_or_default();
        assert_eq!(text("/a"), "Role '/a' cannot start with a slash");
        assert_eq!(text("a//b"), "Role 'a//b' cannot contain two adjacent slashes");
        assert_eq!(
            text("a b"),
            "Role component 'a b' is invalid because it contains backspace or whitespace"
        );
        assert_eq!(text("a/../b"), "Role 'a/../b' cannot include '..' as a component");
        assert_eq!(
            (text(""), text("*"), text("a/b")),
            ("Role names cannot be the empty string".to_owned(), String::new(), String::new())
        );
    }
}
