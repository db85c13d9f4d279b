//! What etcd refuses, and what it takes to be let in: passwords, certificates, quota, large answers.
//!
//! The certificates in `tests/fixtures` are for 127.0.0.1 and good for a hundred years; nothing else uses them.

use overlord_store::{Error, EtcdConfig, EtcdStore, Fetch, Store as _, TlsConfig, Txn};

use crate::{
    server::Etcd,
    world::{committed, config_of, store_of},
};

fn with_user(etcd: &Etcd, name: &str, password: &str) -> EtcdStore {
    let user = Some((name.to_owned(), password.to_owned()));
    EtcdStore::new(EtcdConfig { user, ..config_of(&[etcd.url()]) }).unwrap()
}

#[tokio::test]
async fn credentials_are_checked_and_used() {
    let mut etcd = Etcd::start().await;
    let mut admin = etcd.client().await;
    admin.user_add("root", "s3cret", None).await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    admin.user_add("reader", "read", None).await.unwrap();
    admin.auth_enable().await.unwrap();

    let denied = |error: Error| assert!(matches!(error, Error::Denied(_)), "{error:?}");
    denied(store_of(&[etcd.url()]).get("/a").await.unwrap_err());
    denied(with_user(&etcd, "root", "wrong").get("/a").await.unwrap_err());
    denied(with_user(&etcd, "reader", "read").commit(Txn::unfenced().put("/a", "1")).await.unwrap_err());

    let store = with_user(&etcd, "root", "s3cret");
    committed(store.commit(Txn::unfenced().put("/a", "1")).await);
    // A restarted server knows none of the tokens it gave out.
    etcd.kill();
    assert!(etcd.launch_unasked().await);
    committed(store.commit(Txn::unfenced().put("/a", "2")).await);
}

#[tokio::test]
async fn certificates_let_in_and_keep_out() {
    let etcd = Etcd::start_with_tls().await;
    let file =
        |name: &str| std::fs::read(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let store = |identity| {
        let tls = Some(TlsConfig { authorities: file("ca.pem"), identity });
        let call_timeout = std::time::Duration::from_secs(2);
        EtcdStore::new(EtcdConfig { tls, call_timeout, ..config_of(&[etcd.url()]) }).unwrap()
    };
    let known = store(Some((file("client.pem"), file("client.key"))));
    let ready = async { while known.commit(Txn::unfenced().put("/a", "1")).await.is_err() {} };
    tokio::time::timeout(crate::world::PATIENCE, ready).await.unwrap();
    assert!(store(None).get("/a").await.is_err());
}

#[tokio::test]
async fn a_full_quota_is_called_by_its_name() {
    let etcd = Etcd::start_with(&["--quota-backend-bytes", "8000000"]).await;
    let store = store_of(&[etcd.url()]);
    let mut answer = Ok(());
    for n in 0..20 {
        let txn = Txn::unfenced().put(format!("/{n}"), vec![b'x'; 1_000_000]);
        answer = store.commit(txn).await.map(|_| ());
        if answer.is_err() {
            break;
        }
    }
    assert!(matches!(answer, Err(Error::NoSpace(_))), "{answer:?}");
    assert!(!store.list("/", Fetch::KeysOnly).await.unwrap().entries.is_empty(), "reads go on");
    // Deletes are taken, and give no room by themselves.
    let now = committed(store.commit(Txn::unfenced().delete_prefix("/")).await);
    let answer = store.commit(Txn::unfenced().put("/k", "v")).await;
    assert!(matches!(answer, Err(Error::NoSpace(_))), "{answer:?}");
    etcd.make_room(now).await;
    committed(store.commit(Txn::unfenced().put("/k", "v")).await);
}

#[tokio::test]
async fn a_listing_of_large_values_comes_in_smaller_pages() {
    let etcd = Etcd::start().await;
    let store = store_of(&[etcd.url()]);
    for n in 0..40 {
        committed(store.commit(Txn::unfenced().put(format!("/{n:02}"), vec![b'x'; 1_000_000])).await);
    }
    let listing = store.list("/", Fetch::Values).await.unwrap();
    assert_eq!(listing.entries.len(), 40);
    let (mut pages, mut sizes) = (store.pages("/"), Vec::new());
    while let Some(page) = pages.next().await.unwrap() {
        // Of one moment, whatever comes in between.
        committed(store.commit(Txn::unfenced().put(format!("/later{}", sizes.len()), "v")).await);
        sizes.push(page.len());
    }
    assert_eq!((sizes.iter().sum::<usize>(), pages.revision()), (40, listing.revision));
    assert!(sizes.iter().all(|size| *size < 32), "{sizes:?}");
    assert!(listing.entries.is_sorted_by(|a, b| a.key < b.key));
    assert!(listing.entries.iter().all(|entry| entry.value.len() == 1_000_000));
}
