//! Capture 60: a call of type UNKNOWN with good ids ends a real master. Nobody sends it, not even by mistake.

use overlord_mesos::v1::{ExecutorId, FrameworkId, executor, scheduler};

#[test]
fn the_client_never_sends_type_unknown() {
    let framework_id = FrameworkId::new("a5031e63-d60c-4f63-835e-6c72ba9877f7-0001");
    let call = scheduler::Call { framework_id: Some(framework_id.clone()), ..scheduler::Call::default() };
    assert_eq!(call.kind, scheduler::CallType::Unknown, "what a forgotten type is");
    let text = serde_json::to_value(&call).unwrap();
    assert!(text.get("type").is_none(), "{text}");
    let executor_id = ExecutorId::new("x");
    let call = executor::Call { framework_id, executor_id, ..executor::Call::default() };
    assert_eq!(call.kind, executor::CallType::Unknown, "what a forgotten type is");
    let text = serde_json::to_value(&call).unwrap();
    assert!(text.get("type").is_none(), "{text}");
}

#[test]
fn a_type_that_is_not_known_is_not_passed_on() {
    let call = r#"{"type": "BOGUS", "framework_id": {"value": "f"}}"#;
    let call: scheduler::Call = serde_json::from_str(call).unwrap();
    assert!(serde_json::to_value(&call).unwrap().get("type").is_none());
}
