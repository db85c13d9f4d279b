//! Compiles the message descriptions of the Mesos v1 API into one descriptor set.

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let set = protox::compile(["scheduler.proto", "executor.proto"], ["proto"])?;
    let folder = env::var("OUT_DIR")?;
    fs::write(Path::new(&folder).join("mesos.bin"), set.encode_to_vec())?;
    Ok(())
}
