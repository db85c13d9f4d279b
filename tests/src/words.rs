//! What an oracle says, told from what others say by some of its words.

/// Whether a text holds these words in their order, `*` standing for anything between them.
pub fn says(text: &str, words: &str) -> bool {
    let mut rest = text;
    let mut parts = words.split('*').map(str::trim).filter(|part| !part.is_empty()).peekable();
    parts.peek().is_some()
        && parts.all(|part| {
            let found = rest.find(part).map(|at| &rest[at + part.len()..]);
            rest = found.unwrap_or_default();
            found.is_some()
        })
}

#[test]
fn words_stand_in_their_order() {
    assert!(says("cart/1 starts while cart/0 lives", "starts while"));
    assert!(says("cart/1 starts while cart/0 lives", "starts * lives"));
    assert!(!says("cart/1 starts while cart/0 lives", "lives * starts"));
    assert!(!says("anything", "") && !says("anything", "*"));
}
