//! For tests: a sandbox that starts processes and waits to be killed, or, as its own child, its supervisor.

use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
};

use overlord_sandbox::{Session, supervisor};

fn main() -> io::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("supervise") {
        return supervisor::run(io::stdin().lock());
    }
    let pipe = supervisor::spawn(&std::env::current_exe()?, &["supervise"])?;
    // One that ends when asked, one that does not and has a child, one that has been seen to end.
    let scripts = ["exec sleep 1000", "trap '' TERM; sleep 1000 & sleep 1000; wait", "exec sleep 1000"];
    let mut sessions = Vec::new();
    for script in scripts {
        let child = Command::new("setsid")
            .args(["sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let session = Session::of_leader(child.id()).ok_or_else(|| io::Error::other("no such process"))?;
        pipe.add(session);
        sessions.push(session);
    }
    if let Some(last) = sessions.last() {
        pipe.remove(*last);
    }
    let text: Vec<String> = sessions.iter().map(|s| format!("{} {}", s.leader, s.started)).collect();
    writeln!(io::stdout(), "{}", text.join(" "))?;
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}
