//! A script's processes as redis-servers, each on an address of its own.

use std::{collections::BTreeMap, fs, io, net::IpAddr, path::PathBuf, process::Stdio, time::Duration};

use overlord_tests::{Network, signal};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::stage::PORT;

/// Whoever has not answered by then is silent.
const ANSWER: Duration = Duration::from_millis(700);

/// A loaded machine takes its time to start a process, or to end one.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Real {
    network: Network,
    dir: TempDir,
    children: BTreeMap<usize, Child>,
    places: BTreeMap<usize, usize>,
}

impl Real {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("overlord-models-").tempdir().unwrap();
        Self { network: Network::take(), dir, children: BTreeMap::new(), places: BTreeMap::new() }
    }

    pub(crate) fn ip(&self, n: usize) -> IpAddr {
        self.network.ip(n as u8 + 1).into()
    }

    fn path(&self, n: usize, name: &str) -> PathBuf {
        self.dir.path().join(format!("n{n}")).join(name)
    }

    pub(crate) fn place(&self, n: usize) -> usize {
        self.places.get(&n).copied().unwrap_or(n)
    }

    pub(crate) fn relocate(&mut self, n: usize, to: usize) {
        self.places.insert(n, to);
    }

    /// Until it answers, or has ended.
    pub(crate) async fn start(&mut self, n: usize, conf: &str) -> Result<(), String> {
        fs::create_dir_all(self.dir.path().join(format!("n{n}"))).unwrap();
        fs::write(self.path(n, "redis.conf"), conf).unwrap();
        let log = fs::File::create(self.path(n, "log")).unwrap();
        let mut child = Command::new("redis-server")
            .arg("redis.conf")
            .current_dir(self.path(n, ""))
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let address = (self.ip(self.place(n)), PORT);
        let up = async {
            loop {
                if child.try_wait().unwrap().is_some() {
                    return Err(fs::read_to_string(self.path(n, "log")).unwrap());
                }
                // It listens before it has read its files.
                if let Ok(stream) = TcpStream::connect(address).await {
                    let ping = ["PING".to_owned()];
                    if matches!(
                        timeout(ANSWER, exchange(&mut BufReader::new(stream), &ping)).await,
                        Ok(Ok(_))
                    ) {
                        return Ok(());
                    }
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, up).await.unwrap_or_else(|_| Err("it does not come up".to_owned()))?;
        self.children.insert(n, child);
        Ok(())
    }

    pub(crate) async fn kill(&mut self, n: usize, graceful: bool) {
        let Some(mut child) = self.children.remove(&n) else { return };
        if graceful {
            signal(child.id().unwrap_or(0), Signal::TERM);
            timeout(PATIENCE, child.wait()).await.expect("it ends on SIGTERM").unwrap();
        } else {
            child.kill().await.unwrap();
        }
    }

    pub(crate) fn pause(&self, n: usize, paused: bool) {
        signal(self.children[&n].id().unwrap(), if paused { Signal::STOP } else { Signal::CONT });
    }

    pub(crate) fn nodes_conf(&self, n: usize) -> Option<String> {
        fs::read_to_string(self.path(n, "nodes.conf")).ok()
    }

    pub(crate) fn set_nodes_conf(&self, n: usize, text: Option<String>) {
        fs::create_dir_all(self.path(n, "")).unwrap();
        match text {
            Some(text) => fs::write(self.path(n, "nodes.conf"), text).unwrap(),
            None => self.remove(n, "nodes.conf"),
        }
    }

    fn remove(&self, n: usize, name: &str) {
        match fs::remove_file(self.path(n, name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
            Ok(()) | Err(_) => {}
        }
    }

    pub(crate) fn keep_dump(&self, n: usize) {
        fs::copy(self.path(n, "dump.rdb"), self.path(n, "kept.rdb")).unwrap();
    }

    pub(crate) fn put_dump(&self, n: usize) {
        fs::copy(self.path(n, "kept.rdb"), self.path(n, "dump.rdb")).unwrap();
    }

    pub(crate) fn drop_dump(&self, n: usize) {
        self.remove(n, "dump.rdb");
    }

    pub(crate) async fn ask(&self, n: usize, commands: &[Vec<String>]) -> Vec<String> {
        let address = (self.ip(self.place(n)), PORT);
        let stream = match timeout(ANSWER, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return vec!["(refused)".to_owned(); commands.len()],
            Err(_) => return vec!["(silent)".to_owned(); commands.len()],
        };
        let mut stream = BufReader::new(stream);
        let mut replies = Vec::new();
        for words in commands {
            let reply = timeout(limit(words), exchange(&mut stream, words)).await;
            replies.push(match reply {
                Ok(Ok(reply)) => reply,
                Ok(Err(_)) => "(closed)".to_owned(),
                Err(_) => "(silent)".to_owned(),
            });
        }
        replies
    }
}

/// `WAIT` takes its own time.
fn limit(words: &[String]) -> Duration {
    if words[0] == "WAIT" { PATIENCE } else { ANSWER }
}

async fn exchange(stream: &mut BufReader<TcpStream>, words: &[String]) -> io::Result<String> {
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect::<Vec<_>>();
    let request = format!("*{}\r\n{}", words.len(), words.concat());
    stream.get_mut().write_all(request.as_bytes()).await?;
    let mut reply = String::new();
    let mut missing = 1;
    // A list has its items behind it, and a text its bytes.
    while missing > 0 {
        missing -= 1;
        let from = reply.len();
        if stream.read_line(&mut reply).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = reply[from..].trim_end();
        if let Some(length) = line.strip_prefix('$').and_then(|length| length.parse::<usize>().ok()) {
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes).await?;
            reply.push_str(&String::from_utf8_lossy(&bytes));
        } else if let Some(items) = line.strip_prefix('*').and_then(|items| items.parse::<usize>().ok()) {
            missing += items;
        }
    }
    Ok(reply)
}
