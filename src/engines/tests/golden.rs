//! The texts of `server.conf`, byte for byte. `UPDATE_GOLDEN=1` writes them anew.

mod support;

use std::{env, fs, path::Path};

#[test]
fn configurations_are_rendered_as_kept() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, input) in support::golden() {
        let text = input.render(20_001, 21_001).as_str().to_owned();
        let file = dir.join(format!("{name}.conf"));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&file).unwrap(), "{name}");
        assert_eq!(text, input.render(20_001, 21_001).as_str(), "{name} is the same twice");
    }
}
