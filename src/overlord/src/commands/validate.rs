//! `overlord validate`: the same checks as the API's, without a controller.

use std::path::PathBuf;

use crate::{
    failure::{Exit, Failure},
    manifests, output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A manifest, a folder of manifests (*.yaml, *.yml, *.json), or - for standard input
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut valid = true;
    for file in manifests::read(&args.filename)? {
        let documents = file.documents();
        if documents.is_empty() {
            valid = false;
            anstream::eprintln!("{}: there is no manifest in it", file.name);
        }
        for (_, document) in documents {
            match document.cluster {
                Ok(cluster) => {
                    output::print(&format!(
                        "{}: {}/{} is valid\n",
                        file.name,
                        cluster.spec.shape.kind(),
                        cluster.name
                    ))?;
                }
                Err(faults) => {
                    valid = false;
                    anstream::eprintln!("{}", file.render(&faults).trim_end());
                }
            }
        }
    }
    if valid { Ok(()) } else { Err(Failure::reported(Exit::Failed)) }
}
