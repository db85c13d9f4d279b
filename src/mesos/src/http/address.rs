//! Addresses of masters and agents, as people, followers and ZooKeeper write them.

use reqwest::Url;

use super::HttpConfigError;

/// Longest address and longest `Location` taken.
const MAX_LENGTH: usize = 2048;

/// The URL of `path` at `host:port`, `http://host:port[/...]` or `https://host:port[/...]`. Without a scheme
/// it is `https` when TLS is set up, else `http`.
pub(crate) fn endpoint(address: &str, path: &str, tls: bool) -> Result<Url, HttpConfigError> {
    let bad =
        |reason: &str| HttpConfigError::BadAddress { address: shortened(address), reason: reason.to_owned() };
    if address.len() > MAX_LENGTH {
        return Err(bad("too long"));
    }
    let url = match address.split_once("://") {
        None if tls => format!("https://{address}"),
        None => format!("http://{address}"),
        Some(("http" | "https", _)) => address.to_owned(),
        Some(("zk", _)) => return Err(bad("zk:// must be the only address")),
        Some(_) => {
            return Err(bad(
                "expected host:port, http://host:port, https://host:port or zk://host:port/path",
            ));
        }
    };
    let mut url = Url::parse(&url).map_err(|error| bad(&error.to_string()))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("the host is missing"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("credentials do not belong into the address"));
    }
    url.set_path(path);
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// Where a follower sends us. Its `Location` is scheme-relative (`//host:port/path`), so the scheme stays
/// as it is; one that says `http` to us who came by `https` would give our credentials away.
pub(crate) fn redirect_target(from: &Url, location: &[u8]) -> Result<Url, String> {
    let text = str::from_utf8(location).ok().filter(|text| text.len() <= MAX_LENGTH);
    let bad =
        |why: &str| Err(format!("redirect to {:?}: {why}", shortened(&String::from_utf8_lossy(location))));
    let Some(mut url) = text.and_then(|text| from.join(text).ok()) else {
        return bad("not a URL");
    };
    match (from.scheme(), url.scheme()) {
        ("http", "http") | (_, "https") => {}
        ("https", "http") => return bad("it leaves TLS"),
        _ => return bad("neither http nor https"),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return bad("the host is missing");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return bad("it brings credentials of its own");
    }
    if url.path() == "/" {
        url.set_path(from.path());
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// `host:port`, for messages.
pub(crate) fn peer(url: &Url) -> String {
    match url.port_or_known_default() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    }
}

/// A text of others that is short enough for a message, without what may be a password in it.
pub(crate) fn shortened(text: &str) -> String {
    let short = |text: &str| text.chars().take(200).collect::<String>();
    match text.rsplit_once('@') {
        Some((before, after)) => {
            let scheme =
                before.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
            format!("{}***@{}", short(&scheme), short(after))
        }
        None => short(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_password_in_an_address_is_in_no_error() {
        for address in ["http://me:hush@master:5050", "me:hush@master:5050", "zk://me:hush@zk:2181/mesos"] {
            let error = endpoint(address, "/", false).unwrap_err().to_string();
            assert!(!error.contains("hush") && error.contains("***@"), "{error}");
        }
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        for (address, tls, expected) in [
            ("127.0.0.1:5050", false, Ok("http://127.0.0.1:5050/x")),
            ("127.0.0.1:5050", true, Ok("https://127.0.0.1:5050/x")),
            ("http://master.example:5050/", true, Ok("http://master.example:5050/x")),
            ("http://[::1]:5050", false, Ok("http://[::1]:5050/x")),
            ("https://master:5050/y?z#a", false, Ok("https://master:5050/x")),
            ("http://me:pw@master:5050", false, Err("credentials do not belong into the address")),
            ("zk://a:2181,b:2181/mesos", false, Err("zk:// must be the only address")),
            (
                "ftp://master",
                false,
                Err("expected host:port, http://host:port, https://host:port or zk://host:port/path"),
            ),
        ] {
            match (endpoint(address, "/x", tls), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
                (Err(HttpConfigError::BadAddress { reason, .. }), Err(expected)) => {
                    assert_eq!(reason, expected);
                }
                (result, _) => panic!("{address}: {result:?}"),
            }
        }
        assert!(endpoint("", "/x", false).is_err());
        assert!(endpoint("a b:1", "/x", false).is_err());
        assert!(endpoint(&"a".repeat(3000), "/x", false).is_err());
    }

    #[test]
    fn a_redirect_keeps_the_scheme_and_never_leaves_tls() {
        let (plain, secure) = (url("http://a:5050/api/v1/scheduler"), url("https://a:5050/api/v1/scheduler"));
        for (from, location, expected) in [
            (
                &plain,
                "//127.0.0.1:5250/master/api/v1/scheduler",
                Some("http://127.0.0.1:5250/master/api/v1/scheduler"),
            ),
            (
                &secure,
                "//127.0.0.1:5250/master/api/v1/scheduler",
                Some("https://127.0.0.1:5250/master/api/v1/scheduler"),
            ),
            (&plain, "//127.0.0.1:5250", Some("http://127.0.0.1:5250/api/v1/scheduler")),
            (&plain, "https://b:5050/x", Some("https://b:5050/x")),
            (&secure, "http://b:5050/x", None),
            (&plain, "ftp://b/x", None),
            (&plain, "file:///etc/passwd", None),
            (&plain, "//me:pw@b:5050/", None),
            (&plain, "//b:99999/", None),
        ] {
            let target = redirect_target(from, location.as_bytes());
            assert_eq!(target.as_ref().ok().map(Url::as_str), expected, "{location}: {target:?}");
        }
        assert!(redirect_target(&plain, b"//\xff\xfe:1/").is_err());
        assert!(redirect_target(&plain, "x".repeat(1 << 20).as_bytes()).unwrap_err().len() < 300);
    }

    proptest! {
        #[test]
        fn no_location_leads_out_of_http_or_out_of_tls(location in proptest::collection::vec(any::<u8>(), 0..200), tls: bool) {
            crate::properties::redirect(&location, tls);
        }

        #[test]
        fn nothing_like_a_url_does_either(location in "(https?|ftp|zk)?:?//?[a-z0-9.:@%/\\[\\]-]{0,40}", tls: bool) {
            crate::properties::redirect(location.as_bytes(), tls);
        }
    }
}
