//! Broken specs and what people are told: every fault at once, each with line, column and advice.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod common;

use common::{REDIS, Tables};
use overlord_api::{ClusterName, Fault, Kind, MAX_SPEC_BYTES, parse_file, parse_key, render_faults};

fn faults(text: &str) -> Vec<Fault> {
    let mut documents = parse_file(text, &Tables);
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0).cluster.err().unwrap_or_default()
}

fn lines(text: &str) -> Vec<String> {
    faults(text).iter().map(ToString::to_string).collect()
}

/// What is replaced in the good spec, by what, and all that is said about it.
const CASES: &[(&str, &str, &[&str])] = &[
    (
        "shards: 2",
        "shards: three",
        &["8:11: spec.shards: expected a whole number from 1 to 1024, found the text \"three\""],
    ),
    (
        "shards: 2",
        "shards: \"2\"",
        &[
            "8:11: spec.shards: expected a whole number from 1 to 1024, found the text \"2\"; write 2, without quotes or leading zeros",
        ],
    ),
    (
        "shards: 2",
        "shards: 0",
        &["8:11: spec.shards: expected a whole number from 1 to 1024, found the number 0"],
    ),
    (
        "shards: 2",
        "shards: 2.5",
        &["8:11: spec.shards: expected a whole number from 1 to 1024, found the number 2.5"],
    ),
    (
        "shards: 2",
        "shards: [2]",
        &["8:11: spec.shards: expected a whole number from 1 to 1024, found a list"],
    ),
    ("shards: 2", "shards:", &["8:9: spec.shards: expected a whole number from 1 to 1024, found nothing"]),
    ("shards: 2", "shard: 2", &["8:3: spec.shard: unknown field; did you mean shards?"]),
    (
        "shards: 2",
        "shards: 2\n  shards: 3",
        &["9:3: spec.shards: given twice, first in line 8; keep one of them"],
    ),
    (
        "shards: 2",
        "shards: 2\n  replicas: 1",
        &[
            "9:3: spec.replicas: kind Redis has no replicas in this version; remove it, or use kind: RedisCluster with masters and replicasPerMaster",
        ],
    ),
    ("shards: 2", "masters: 3", &["8:3: spec.masters: not a field of kind Redis; write shards"]),
    ("shards: 2", "shards: &n 2", &["8:11: anchors (&name) are not read; write each value out"]),
    ("shards: 2", "shards: *n", &["8:11: aliases (*name) are not read; write the value out"]),
    ("shards: 2", "shards: !!int 2", &["8:11: tags (!name) are not read; put text into quotes instead"]),
    (
        "shards: 2",
        "shards: 2\n  ? [a, b]\n  : 1",
        &["9:5: a list or mapping cannot be a key; write a plain name before the colon"],
    ),
    (
        "shards: 2",
        "shards: 2\n  <<: {a: 1}",
        &["9:3: spec[\"<<\"]: unknown field; merge keys are not read: write the fields out"],
    ),
    (
        "version: \"7.0.15\"",
        "version: 7.0",
        &[
            "7:12: spec.version: expected a version in quotes, such as \"7.0.15\", found the number 7.0; put it into quotes: \"7.0\"",
        ],
    ),
    (
        "version: \"7.0.15\"",
        "version: \"9.9\"",
        &["7:12: spec.version: no tables for redis 9.9; known: 6.2.14, 7.0.15"],
    ),
    (
        "version: \"7.0.15\"",
        "version: ../../bin",
        &["7:12: spec.version: \"../../bin\" is no version such as 7.0.15"],
    ),
    (
        "memory: 512Mi",
        "memory: 512MB",
        &[
            "9:35: spec.resources.memory: \"512MB\" is not a size; did you mean 512Mi? units are Ki, Mi, Gi, Ti (1024) and k, M, G, T (1000)",
        ],
    ),
    (
        "memory: 512Mi",
        "memory: 512",
        &[
            "9:35: spec.resources.memory: 512 is less than the least, 16Mi; a bare number is bytes: did you mean 512Mi?",
        ],
    ),
    ("memory: 512Mi", "memory: 9Ti", &["9:35: spec.resources.memory: 9Ti is more than the most, 4Ti"]),
    ("memory: 512Mi, ", "", &["9:3: spec.resources.memory: is missing; write memory: 512Mi"]),
    (
        "cpu: \"0.5\"",
        "cpu: half",
        &[
            "9:20: spec.resources.cpu: \"half\" is not an amount of cpu; write cores such as \"0.5\" or \"2\", with at most three decimals, or thousandths such as 500m",
        ],
    ),
    ("cpu: \"0.5\"", "cpu: 0", &["9:20: spec.resources.cpu: expected cores from 0.01 to 256, found 0"]),
    (
        "minReady: 5s",
        "minReady: 5",
        &[
            "16:41: spec.update.minReady: \"5\" has no unit; did you mean 5s? write a number and a unit (ms, s, m, h, d), such as 30s or 1h 30m",
        ],
    ),
    (
        "minReady: 5s",
        "minReady: 15m",
        &["16:56: spec.update.deadline: deadline must be longer than minReady"],
    ),
    (
        "replaceAfter: 10m",
        "replaceAfter: 10s",
        &["17:51: spec.recovery.replaceAfter: replaceAfter must not be shorter than unreachableAfter"],
    ),
    (
        "protected: false",
        "protected: no",
        &[
            "18:25: spec.deletion.protected: expected true or false, found the text \"no\"; write false without quotes",
        ],
    ),
    (
        "protected: false",
        "protected: 1",
        &["18:25: spec.deletion.protected: expected true or false, found the number 1"],
    ),
    (
        "by: host",
        "by: hots",
        &[
            "14:19: spec.placement.spread[0].by: expected one of host, rack, zone, found the text \"hots\"; did you mean host?",
        ],
    ),
    (
        "{by: host, rule: required}",
        "{by: host}, {by: host}",
        &["14:26: spec.placement.spread: host is listed twice; keep one of them"],
    ),
    (
        "spread: [{by: host, rule: required}]",
        "spread: host",
        &[
            "14:13: spec.placement.spread: expected a list, found the text \"host\"; write [a, b], or one line '- a' an item",
        ],
    ),
    ("roles: [\"*\"]", "roles: []", &["13:12: spec.placement.roles: expected 1 to 8 items, found 0"]),
    (
        "roles: [\"*\"]",
        "roles: [\"a b\", 7]",
        &[
            "13:13: spec.placement.roles[0]: \"a b\" is no Mesos role: no blanks, no leading dash, not . or ..",
            "13:20: spec.placement.roles[1]: expected text, found the number 7; put it into quotes: \"7\"",
        ],
    ),
    (
        "operator: is, value: ssd",
        "operator: exists, value: ssd",
        &["15:62: spec.placement.constraints[0].value: exists compares with nothing; remove value"],
    ),
    (
        "operator: is, value: ssd",
        "operator: in, value: \"a,,b\"",
        &["15:58: spec.placement.constraints[0].value: \"a,,b\" has an empty item; write value: a,b"],
    ),
    (
        "operator: is, value: ssd",
        "operator: equals",
        &[
            "15:47: spec.placement.constraints[0].operator: expected one of is, is-not, in, not-in, exists, found the text \"equals\"",
        ],
    ),
    (
        "value: ssd",
        "value: 7",
        &[
            "15:58: spec.placement.constraints[0].value: expected text, found the number 7; put it into quotes: \"7\"",
        ],
    ),
    (
        "maxmemory-policy: allkeys-lru",
        "maxmemory_policy: allkeys-lru",
        &["11:5: spec.config.maxmemory_policy: not on the allow-list; did you mean maxmemory-policy?"],
    ),
    (
        "maxmemory-policy: allkeys-lru",
        "save: \"900 1\\nrequirepass x\"",
        &["11:11: spec.config.save: \"900 1\\nrequirepass x\" holds a control character"],
    ),
    (
        "maxmemory-policy: allkeys-lru",
        "save: '\"\"'",
        &["11:11: spec.config.save: \"\\\"\\\"\" holds a quote or backslash"],
    ),
    (
        "maxmemory-policy: allkeys-lru",
        "\"save x\\nslaveof\": y",
        &[
            "11:5: spec.config[\"save x\\nslaveof\"]: \"save x\\nslaveof\" is no directive name: letters, digits, - and _ only",
        ],
    ),
    (
        "maxmemory-policy: allkeys-lru",
        "hz: fast",
        &["11:5: spec.config.hz: expected a whole number, found fast"],
    ),
    (
        "maxmemory-policy: allkeys-lru",
        "save:",
        &["11:9: spec.config.save: expected one value, found nothing; write \"\" for the empty value"],
    ),
    (
        "maxmemory-policy: allkeys-lru",
        "maxmemory: 1Gi",
        &["11:5: spec.config.maxmemory: is above resources.memory"],
    ),
    (
        "name: orders",
        "name: Orders_1",
        &[
            "4:9: metadata.name: a cluster name holds only a-z, 0-9 and inner dashes, not 'O'; write orders-1, for example",
        ],
    ),
    (
        "name: orders",
        "name: 17",
        &["4:9: metadata.name: expected a name, found the number 17; put it into quotes: \"17\""],
    ),
    (
        "name: orders",
        "title: orders",
        &[
            "3:1: metadata.name: is missing; write name: orders",
            "4:3: metadata.title: unknown field; known here: name, labels",
        ],
    ),
    (
        "team: pay",
        "team: 7",
        &["5:18: metadata.labels.team: expected text, found the number 7; put it into quotes: \"7\""],
    ),
    (
        "team: pay",
        "\"a b\": \"x\\0\"",
        &[
            "5:12: metadata.labels[\"a b\"]: the label name \"a b\" holds more than letters, digits and inner . _ - /",
            "5:19: metadata.labels[\"a b\"]: \"x\\0\" holds more than letters, digits and inner . _ - /",
        ],
    ),
    (
        "kind: Redis",
        "kind: redis_cluster",
        &[
            "2:7: kind: expected one of Redis, RedisCluster, Memcache, found the text \"redis_cluster\"; did you mean RedisCluster?",
        ],
    ),
    (
        "kind: Redis",
        "kind: Postgres",
        &["2:7: kind: expected one of Redis, RedisCluster, Memcache, found the text \"Postgres\""],
    ),
    (
        "kind: Redis",
        "kind: Memcache",
        &[
            "7:12: spec.version: no tables for memcache 7.0.15; known: 1.6.18",
            "8:3: spec.shards: not a field of kind Memcache; write instances",
        ],
    ),
    (
        "apiVersion: overlord/v1",
        "apiVersion: v1",
        &["1:13: apiVersion: expected overlord/v1, found the text \"v1\""],
    ),
    ("apiVersion: overlord/v1\n", "", &["1:1: apiVersion: is missing; write apiVersion: overlord/v1"]),
    ("  name: orders\n  labels: {team: pay}\n", "", &["3:1: metadata.name: is missing; write name: orders"]),
    ("shards: 2", "\tshards: 2", &["8:4: a tab cannot indent; indent with spaces"]),
    ("\n  shards: 2", "\n\tshards: 2", &["8:2: a tab cannot indent; indent with spaces"]),
    (
        "shards: 2",
        "shards: a: b",
        &[
            "8:12: a ':' is not expected here; indent fields alike, put a space after each ':', and quote text that holds ': '",
        ],
    ),
    (
        "\n  shards: 2",
        "\n   shards: 2",
        &["8:4: the indentation fits nothing above; give fields of one mapping the same indentation"],
    ),
    (
        "\n  shards: 2",
        "\n shards: 2",
        &["8:2: the indentation fits nothing above; give fields of one mapping the same indentation"],
    ),
    ("shards: 2", "shards 2", &["8:3: a name without a ':'; write name: value"]),
    (
        "version: \"7.0.15\"",
        "version: \"7.0.15",
        &["7:12: the quote that begins here is never closed; close it on the same line"],
    ),
    ("disk: 1Gi}", "disk: 1Gi", &["10:9: expected ',' or '}'; close the bracket opened above"]),
    ("shards: 2", "shards: 2 # \u{7}bell", &["8:15: the hidden character U+0007; remove it"]),
    ("shards: 2", "shards: 2 # \u{202e}gnivig", &["8:15: the hidden character U+202E; remove it"]),
    ("value: ssd", "value: @ssd", &["15:58: text cannot begin with '@'; put the text into quotes"]),
    (
        "spec:",
        "spec: [[[[[[[[[[[[[[[[[[[[[[[[[[",
        &["6:30: nested too deeply; a spec needs at most five levels"],
    ),
];

#[test]
fn each_broken_spec_is_told_what_is_wrong_where_and_what_to_write() {
    for (find, replace, expected) in CASES {
        assert_eq!(REDIS.matches(find).count(), 1, "{find:?} must be in the spec once");
        assert_eq!(lines(&REDIS.replace(find, replace)), *expected, "{find:?} -> {replace:?}");
    }
}

#[test]
fn the_spec_they_are_made_from_is_good() {
    assert_eq!(lines(REDIS), [""; 0]);
}

#[test]
fn all_faults_of_a_document_are_reported_at_once_in_the_order_of_the_text() {
    let text = REDIS
        .replace("name: orders", "name: Orders")
        .replace("shards: 2", "shards: many")
        .replace("512Mi", "512MB")
        .replace("allkeys-lru", "\"a\\rb\"")
        .replace("by: host", "by: &h host")
        .replace("value: ssd", "value: !v ssd")
        .replace("minReady: 5s", "minReady: 5")
        .replace("{protected: false}", "{protect: false} # \u{200b}");
    let places: Vec<_> = faults(&text).into_iter().map(|fault| (fault.line, fault.column)).collect();
    assert_eq!(
        places,
        [(4, 9), (8, 11), (9, 35), (11, 23), (14, 19), (15, 58), (16, 41), (18, 14), (18, 32)]
    );
}

#[test]
fn a_bad_document_hides_no_other() {
    let text = format!(
        "{REDIS}---\nkind: [\n---\n# nothing\n---\n{}---\n{}",
        REDIS.replace("name: orders", "name: carts").replace("shards: 2", "shards: 0"),
        REDIS.replace("name: orders", "name: users")
    );
    let documents = parse_file(&text, &Tables);
    let names: Vec<_> = documents.iter().map(|document| document.name.as_deref()).collect();
    assert_eq!(names, [Some("orders"), None, Some("carts"), Some("users")]);
    let good: Vec<_> = documents.iter().map(|document| document.cluster.is_ok()).collect();
    assert_eq!(good, [true, false, false, true]);
    assert_eq!(documents[3].text, REDIS.replace("name: orders", "name: users"));
    // Lines are those of the file: 18 of the first document, 4 of the others, the separator.
    let fault = &documents[2].cluster.as_ref().unwrap_err()[0];
    assert_eq!((fault.line, fault.column), (18 + 5 + 8, 11));
    assert_eq!(&text[fault.span.clone()], "0");
}

#[test]
fn a_name_used_twice_in_a_file_is_refused_where_it_is_used_again() {
    let documents = parse_file(&format!("{REDIS}---\n{REDIS}"), &Tables);
    assert!(documents[0].cluster.is_ok());
    let faults = documents[1].cluster.as_ref().unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "23:9: metadata.name: this name is already used in line 4; a name is one cluster"
    );
}

#[test]
fn a_document_that_breaks_off_still_says_its_name() {
    let document = &parse_file(&REDIS.replace("shards: 2", "shards: }"), &Tables)[0];
    assert_eq!((document.name.as_deref(), document.kind), (Some("orders"), Some(Kind::Redis)));
    assert!(document.cluster.is_err());
}

#[test]
fn json_is_read_as_yaml() {
    let json = r#"{"apiVersion":"overlord/v1","kind":"Memcache","metadata":{"name":"sessions"},
        "spec":{"version":"1.6.18","instances":3,"resources":{"memory":67108864,"cpu":0.25}}}"#;
    let documents = parse_file(json, &Tables);
    let cluster = documents[0].cluster.as_ref().unwrap();
    assert_eq!((cluster.spec.resources.memory, cluster.spec.resources.cpu_millis), (64 << 20, 250));
}

#[test]
fn carriage_returns_before_line_ends_and_a_byte_order_mark_are_no_fault() {
    let text = format!("\u{feff}{}", REDIS.replace('\n', "\r\n"));
    assert_eq!(lines(&text), [""; 0]);
    let broken = text.replace("shards: 2", "shards: x");
    assert_eq!(lines(&broken).len(), 1);
    assert!(lines(&broken)[0].starts_with("8:11: "));
}

fn key(name: &str, value: &[u8]) -> Vec<String> {
    let result = parse_key(&ClusterName::new(name).unwrap(), value, &Tables);
    result.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn a_key_holds_exactly_one_cluster_of_its_own_name() {
    assert_eq!(key("orders", REDIS.as_bytes()), [""; 0]);
    assert_eq!(key("orders", format!("---\n{REDIS}...\n").as_bytes()), [""; 0]);
    assert_eq!(
        key("carts", REDIS.as_bytes()),
        ["4:9: metadata.name: is orders, but the key is /overlord/config/carts; \
          write name: carts, or put it under /overlord/config/orders"]
    );
    let two = format!("{}---\n{REDIS}", REDIS.replace("shards: 2", "shards: 0"));
    assert_eq!(
        key("orders", two.as_bytes()),
        [
            "8:11: spec.shards: expected a whole number from 1 to 1024, found the number 0",
            "19:1: a second document begins here; one key holds one cluster"
        ]
    );
    assert_eq!(
        key("orders", b" \n# later\n"),
        ["1:1: there is no document in it; begin with apiVersion: overlord/v1"]
    );
    assert_eq!(
        key("orders", b"just text"),
        ["1:1: expected a mapping, found the text \"just text\"; begin with apiVersion: overlord/v1"]
    );
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let mut value = b"kind: Redis\nspec: ".to_vec();
    value.extend([0xff, 0xfe]);
    assert_eq!(key("orders", &value), ["2:7: byte 18 is not UTF-8; save the spec as UTF-8"]);
}

#[test]
fn oversized_values_are_refused_before_they_are_parsed() {
    let value = format!("{REDIS}#{}", "x".repeat(MAX_SPEC_BYTES));
    let expected =
        format!("1:1: the spec has {} bytes, more than 65536; a spec holds one cluster", value.len());
    assert_eq!(key("orders", value.as_bytes()), lines(&value));
    assert_eq!(lines(&value), [expected]);
    assert_eq!(lines(&"[".repeat(100_000)).len(), 1);
}

#[test]
fn hostile_nesting_and_aliases_cost_no_more_than_their_text() {
    let most = MAX_SPEC_BYTES - 64;
    for part in ["[", "{", "- ", "? ", "{a: ", "[{", "&a ", "!a ", "\"", "a: [\n", "x: y\n", "? - ", "- x\n"]
    {
        let found = lines(&part.repeat(most / part.len()));
        assert!((1..=65).contains(&found.len()), "{part:?}: {}", found.len());
    }
    let bomb = "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c, *c]\n";
    assert!(lines(bomb).iter().any(|line| line.contains("aliases (*name) are not read")));
}

#[test]
fn rendered_faults_show_the_line_with_carets_and_advice() {
    let text = REDIS.replace("shards: 2", "shard: 2").replace("512Mi", "512MB");
    let expected = r#"error: spec.shard: unknown field
 --> pools/x.yaml:8:3
  |
8 |   shard: 2
  |   ^^^^^
  |
  = help: did you mean shards?

error: spec.resources.memory: "512MB" is not a size
 --> pools/x.yaml:9:35
  |
9 |   resources: {cpu: "0.5", memory: 512MB, disk: 1Gi}
  |                                   ^^^^^
  |
  = help: did you mean 512Mi? units are Ki, Mi, Gi, Ti (1024) and k, M, G, T (1000)
"#;
    assert_eq!(render_faults("pools/x.yaml", &text, &faults(&text), false), expected);
    assert!(render_faults("x", &text, &faults(&text), true).contains("\u{1b}[1m"));
}

#[test]
fn rendered_places_are_those_of_the_faults() {
    for (find, replace, _) in CASES {
        let text = format!("# ümläut\n{}", REDIS.replace(find, replace).replace("team:", "ü:"));
        for fault in faults(&text) {
            let shown = render_faults("x.yaml", &text, std::slice::from_ref(&fault), false);
            let place = format!("--> x.yaml:{}:{}\n", fault.line, fault.column);
            assert!(shown.contains(&place), "{fault}\n{shown}");
        }
    }
}

#[test]
fn what_is_shown_cannot_command_the_terminal() {
    let text = REDIS.replace("shards: 2", "shards: \u{1b}[2J\u{202e}x # \u{7}");
    let shown = render_faults("x\u{1b}]0;y\u{7}.yaml", &text, &faults(&text), false);
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    assert!(!shown.contains('\u{202e}'), "{shown:?}");
}
