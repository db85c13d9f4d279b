//! Values as version 1 has them (`tests/fixtures/values/v1`) are read by this build, whatever it writes itself. When a
//! later version changes a value, these files stay as they are, and so does this test.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper may panic")]

use std::{collections::BTreeSet, fs, path::Path};

use overlord_api::{
    Endpoints, Event, Info, Leader, Quarantine, Record, Report, Revision, Status, Task, TaskStatus,
    Unreadable, VALUES_VERSION, read_value,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Reads a value, and what this build writes of it; no field may be lost on the way.
fn kept<T: Serialize + DeserializeOwned>(name: &str, bytes: &[u8]) {
    let value: T = read_value(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (before, after): (Value, Value) =
        (serde_json::from_slice(bytes).unwrap(), serde_json::to_value(&value).unwrap());
    assert_holds(name, &before, &after);
    let newer = VALUES_VERSION + 1;
    let mut marked = before;
    marked["version"] = newer.into();
    let refused = read_value::<T>(&serde_json::to_vec(&marked).unwrap()).err();
    assert_eq!(refused, Some(Unreadable::Newer(newer.into())), "{name}");
}

/// Whether everything of `before` is in `after`, the version aside.
fn assert_holds(name: &str, before: &Value, after: &Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (field, value) in before.iter().filter(|(field, _)| *field != "version") {
                let now = after.get(field).unwrap_or_else(|| panic!("{name}: {field} is lost"));
                assert_holds(&format!("{name}: {field}"), value, now);
            }
        }
        (before, after) => assert_eq!(before, after, "{name}"),
    }
}

#[test]
fn every_value_of_version_1_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/values/v1");
    let mut kinds = BTreeSet::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        let kind = name.split('.').next().unwrap().to_owned();
        match kind.as_str() {
            "info" => kept::<Info>(&name, &bytes),
            "report" => kept::<Report>(&name, &bytes),
            "record" => kept::<Record>(&name, &bytes),
            "status" => kept::<Status>(&name, &bytes),
            "endpoints" => kept::<Endpoints>(&name, &bytes),
            "revision" => kept::<Revision>(&name, &bytes),
            "quarantine" => kept::<Quarantine>(&name, &bytes),
            "event" => kept::<Event>(&name, &bytes),
            "task" => kept::<Task>(&name, &bytes),
            "task_status" => kept::<TaskStatus>(&name, &bytes),
            "leader" => kept::<Leader>(&name, &bytes),
            other => panic!("{name}: nothing reads {other}"),
        }
        kinds.insert(kind);
    }
    assert_eq!(kinds.len(), 11, "{kinds:?}");
}
