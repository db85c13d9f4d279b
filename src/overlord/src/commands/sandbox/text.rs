//! What a sandbox says: where everything is, and what to try.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use overlord_api::{Endpoints, Kind};
use overlord_server::view::ApplyView;

use super::{
    DEFAULT_ADMIN,
    start::{Addresses, agent_ip},
};
use crate::{
    client::{Client, segment},
    client_settings::DEFAULT_SERVER,
    failure::Failure,
};

/// Printed once everything listens.
pub(crate) fn greeting(addresses: &Addresses) -> String {
    let engines: Vec<String> =
        addresses.engines.iter().map(|found| format!("{} {}", found.engine, found.version)).collect();
    let kept = if addresses.temporary { ", removed in the end" } else { "" };
    let mut text = format!("Sandbox in {}{kept}\n", addresses.root.display());
    let _ = writeln!(text, "  etcd      {}", addresses.etcd);
    let _ = writeln!(
        text,
        "  Mesos     {}, agents agent-1 to agent-{} on {} to {}",
        addresses.master,
        addresses.agents,
        agent_ip(addresses.network, 1),
        agent_ip(addresses.network, addresses.agents)
    );
    let _ = writeln!(text, "  engines   {}", engines.join(", "));
    if let Some(api) = addresses.api {
        let _ = writeln!(text, "  API       http://{api}");
        let _ = writeln!(text, "\nTry, in another terminal:\n{}", setup(addresses));
        let _ = writeln!(text, "  overlord apply -f examples/redis-two-shards.yaml --wait");
        let _ = writeln!(text, "  overlord get clusters");
        let _ = writeln!(text, "  overlord describe cluster two-shards");
    } else {
        let _ = writeln!(text, "\nStart a controller in another terminal:");
        let _ = writeln!(text, "  overlord controller --config {}", addresses.settings_file.display());
        let _ = writeln!(text, "Then, in a third one:\n{}", setup(addresses));
    }
    let _ = writeln!(text, "  overlord sandbox fault agent-lost agent-1");
    let _ = writeln!(text, "  etcdctl --endpoints={} get --prefix --keys-only /overlord/", addresses.etcd);
    text.push_str("Ctrl-C here ends everything.\n");
    text
}

/// What a shell must know when an address is not the usual one.
fn setup(addresses: &Addresses) -> String {
    let mut text = String::new();
    if let Some(folder) = &addresses.program {
        let _ = writeln!(text, "  export PATH={}:$PATH", folder.display());
    }
    if let Some(api) = addresses.api.filter(|api| format!("http://{api}") != DEFAULT_SERVER) {
        let _ = writeln!(text, "  export OVERLORD_SERVER=http://{api}");
    }
    if addresses.admin.to_string() != DEFAULT_ADMIN {
        let _ = writeln!(text, "  export OVERLORD_SANDBOX_ADMIN={}", addresses.admin);
    }
    text.truncate(text.trim_end().len());
    text
}

/// The folder of this program, unless a shell finds it by itself.
pub(crate) fn folder_to_add(exe: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    let folder = exe.parent()?;
    let found = path.is_some_and(|path| std::env::split_paths(path).any(|known| known == folder));
    (!found).then(|| folder.to_path_buf())
}

/// Printed once all applied clusters are Ready: commands that use them.
pub(crate) async fn ready(
    client: &Client,
    applied: &[ApplyView],
    addresses: &Addresses,
) -> Result<String, Failure> {
    let count = applied.len();
    let mut text = if count == 1 {
        "\nThe cluster is Ready. Use it:\n".to_owned()
    } else {
        format!("\nAll {count} clusters are Ready. Use them:\n")
    };
    let setup = setup(addresses);
    if !setup.is_empty() {
        let _ = writeln!(text, "{setup}");
    }
    for kind in Kind::ALL {
        let Some(view) = applied.iter().find(|view| view.kind == kind) else { continue };
        let path = format!("/v1/clusters/{}/endpoints", segment(&view.name));
        let Some(endpoints) = client.find::<Endpoints>(&path).await? else { continue };
        let Some(endpoint) = endpoints.endpoints.first() else { continue };
        let (ip, port) = (endpoint.address.ip, endpoint.address.port);
        let _ = match kind {
            Kind::RedisCluster => {
                let name = &view.name;
                let _ = writeln!(text, "  redis-cli -c -h {ip} -p {port} set greeting hello      # {name}");
                let _ = writeln!(text, "  redis-cli --cluster check {ip}:{port}");
                writeln!(text, "  overlord describe cluster {name}")
            }
            Kind::Redis => {
                writeln!(text, "  redis-cli -h {ip} -p {port} set greeting hello      # {}", view.name)
            }
            Kind::Memcache => {
                let words = r"set greeting 0 0 5\r\nhello\r\nget greeting\r\nquit\r\n";
                writeln!(text, "  printf '{words}' | nc {ip} {port}      # {}", view.name)
            }
        };
    }
    let name = applied.first().map_or("NAME", |view| view.name.as_str());
    let _ = writeln!(text, "  overlord get clusters");
    let _ = writeln!(text, "  overlord get instances -o wide");
    let _ = writeln!(text, "  overlord endpoints {name}");
    let _ = writeln!(text, "  overlord describe cluster {name}");
    Ok(text)
}

/// Settings for a controller that is started by hand.
pub(crate) fn settings(addresses: &Addresses, exe: &Path, state_file: &Path) -> String {
    let mut text = format!(
        "# Written by `overlord sandbox`, for `overlord controller --config <this file>`.\n\
         [etcd]\nendpoints = [{}]\n\n[mesos]\nmasters = [{}]\n\n[executor]\npath = {}\n\n\
         [controller]\nstate_file = {}\nlease = \"5s\"\n",
        quoted(&format!("http://{}", addresses.etcd)),
        quoted(&addresses.master.to_string()),
        quoted(&exe.display().to_string()),
        quoted(&state_file.display().to_string()),
    );
    for found in &addresses.engines {
        let _ = writeln!(text, "\n[engines.{}.{}]", found.engine, quoted(&found.version));
    }
    text
}

/// Where everything listens, for scripts: one JSON object.
pub(crate) fn addresses(addresses: &Addresses) -> String {
    let Addresses { etcd, master, admin, api, .. } = addresses;
    let value = serde_json::json!({
        "etcd": format!("http://{etcd}"),
        "master": master.to_string(),
        "admin": admin.to_string(),
        "api": api.map(|api| format!("http://{api}")),
    });
    format!("{value}\n")
}

/// A TOML basic string; JSON escapes in the same way.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use overlord_api::Engine;

    use super::*;
    use crate::{commands::sandbox::binaries::Found, settings::file};

    fn addresses(api: Option<&str>) -> Addresses {
        Addresses {
            root: "/tmp/s".into(),
            temporary: true,
            etcd: "127.0.0.1:2379".parse().unwrap(),
            master: "127.0.0.1:5050".parse().unwrap(),
            admin: DEFAULT_ADMIN.parse().unwrap(),
            api: api.map(|api| api.parse().unwrap()),
            settings_file: "/tmp/s/overlord.toml".into(),
            program: None,
            network: std::net::Ipv4Addr::new(127, 0, 0, 0),
            agents: 6,
            engines: vec![Found { engine: Engine::Redis, version: "7.0.15".into(), path: "/r".into() }],
        }
    }

    #[test]
    fn the_greeting_names_variables_only_for_unusual_addresses() {
        assert!(!greeting(&addresses(Some("127.0.0.1:8880"))).contains("export"));
        let text = greeting(&addresses(Some("127.0.0.1:9999")));
        assert!(text.contains("export OVERLORD_SERVER=http://127.0.0.1:9999"), "{text}");
        assert!(greeting(&addresses(None)).contains("overlord controller --config /tmp/s/overlord.toml"));
    }

    #[test]
    fn the_program_s_folder_is_named_unless_the_shell_knows_it() {
        let exe = Path::new("/work/target/release/overlord");
        let folder = folder_to_add(exe, Some(OsStr::new("/usr/bin:/bin")));
        assert_eq!(folder.as_deref(), exe.parent());
        assert_eq!(folder_to_add(exe, Some(OsStr::new("/bin:/work/target/release"))), None);
    }

    #[test]
    fn the_settings_file_is_one_that_a_controller_reads() {
        let text = settings(&addresses(None), Path::new("/a \"b\"/overlord"), Path::new("/tmp/s/state"));
        let file = file::parse("f", &text).unwrap();
        assert_eq!(file.executor.path.unwrap(), "/a \"b\"/overlord");
        assert!(file.engines[&Engine::Redis].contains_key("7.0.15"));
    }
}
