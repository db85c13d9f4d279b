//! The command line of a server process. No shell reads it.

use std::{ffi::OsString, path::Path};

use overlord_api::Kind;

use crate::ServerConf;

/// What to execute: the binary and its arguments. `config_file` is where the caller has written the text;
/// memcached reads no file, so its lines become long options.
pub fn command(
    kind: Kind,
    conf: &ServerConf,
    binary: &Path,
    config_file: &Path,
    run_as_root: bool,
) -> Vec<OsString> {
    let mut argv = vec![binary.as_os_str().to_owned()];
    match kind {
        Kind::Redis | Kind::RedisCluster => argv.push(config_file.as_os_str().to_owned()),
        Kind::Memcache => {
            let lines = conf.as_str().lines().map(str::trim);
            let options = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            argv.extend(options.map(|line| OsString::from(format!("--{line}"))));
            if run_as_root {
                // memcached refuses to run as root unless told to (exit 64).
                argv.push(OsString::from("--user=root"));
            }
        }
    }
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memcached_gets_its_lines_as_options_and_redis_its_file() {
        let conf = ServerConf::parse("# x\nport=20001\nextended=no_lru_crawler\nverbose\nverbose\n").unwrap();
        let argv = |kind, root| -> Vec<String> {
            let argv = command(kind, &conf, Path::new("/b/server"), Path::new("redis.conf"), root);
            argv.into_iter().map(|word| word.into_string().unwrap()).collect()
        };
        let options = ["/b/server", "--port=20001", "--extended=no_lru_crawler", "--verbose", "--verbose"];
        assert_eq!(argv(Kind::Memcache, false), options);
        assert_eq!(argv(Kind::Memcache, true).last().map(String::as_str), Some("--user=root"));
        assert_eq!(argv(Kind::RedisCluster, true), ["/b/server", "redis.conf"]);
    }
}
