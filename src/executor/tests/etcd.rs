//! Reading the keys of an instance from a real etcd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use common::{TASK, info};
use overlord_api::{Address, ClusterName, Kind, keys};
use overlord_executor::{EtcdInstances, Instances as _, ReadError, StoreInstances};
use overlord_store::{EtcdConfig, EtcdStore, Store as _, Txn};

struct Etcd {
    process: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (url, peer) = (format!("http://127.0.0.1:{}", port()), format!("http://127.0.0.1:{}", port()));
        let process = Command::new("etcd")
            .args(["--heartbeat-interval", "10", "--election-timeout", "100", "--data-dir"])
            .arg(dir.path().join("data"))
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
                "--listen-peer-urls",
                &peer,
            ])
            .args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, url, _dir: dir }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn the_keys_of_one_instance_are_read_in_one_go() {
    let etcd = Etcd::start();
    let config = EtcdConfig { endpoints: vec![etcd.url.clone()], ..EtcdConfig::default() };
    let store = EtcdStore::new(config.clone()).unwrap();
    let cluster = ClusterName::new("orders").unwrap();
    let address: Address = "127.0.0.1:2000".parse().unwrap();
    // Its name begins as ours does.
    let neighbour: Address = "127.0.0.1:20001".parse().unwrap();
    let txn = |address: Address| {
        let info = serde_json::to_vec(&info(Kind::Redis, address, TASK)).unwrap();
        Txn::unfenced()
            .put(keys::info(&cluster, address), info)
            .put(keys::server_conf(&cluster, address), format!("port {}\n", address.port))
    };
    let mut tries = 0;
    while let Err(error) = store.commit(txn(neighbour)).await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let instances = EtcdInstances::new(config);
    assert_eq!(instances.read(&cluster, address).await.unwrap(), None);
    store.commit(txn(address)).await.unwrap();
    let read = instances.read(&cluster, address).await.unwrap().expect("keys");
    assert_eq!(
        (read.info.port, read.server_conf.as_str(), read.nodes_conf.as_deref()),
        (2000, "port 2000\n", None)
    );
    assert_eq!(
        StoreInstances::new(Arc::new(store.clone())).read(&cluster, address).await.unwrap(),
        Some(read)
    );

    store.commit(Txn::unfenced().delete(keys::server_conf(&cluster, address))).await.unwrap();
    let error = instances.read(&cluster, address).await.unwrap_err();
    assert!(error.to_string().ends_with("127.0.0.1:2000/server.conf: is missing"), "{error}");
    store.commit(Txn::unfenced().put(keys::info(&cluster, address), "{")).await.unwrap();
    assert!(matches!(instances.read(&cluster, address).await, Err(ReadError::Malformed { .. })));

    drop(etcd);
    assert!(matches!(
        instances.read(&cluster, address).await,
        Err(ReadError::Store { .. } | ReadError::TimedOut { .. })
    ));
}
