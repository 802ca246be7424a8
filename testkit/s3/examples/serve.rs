//! The S3 server of the tests as a process, for `make fleet`: serve FOLDER ADDRESS. The bucket stays in the folder from one
//! start to the next; of uploads in parts that are under way when it ends, nothing does.

use std::io::{self, Write as _};
use std::path::Path;

use souk_testkit_s3::{ACCESS_KEY_ID, BUCKET, S3Server};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, address] = arguments.as_slice() else {
        return Err(io::Error::other("give a folder and an address, as 127.0.0.1:9000"));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut server = S3Server::start_in(Path::new(folder), address).await;
        let endpoint = server.endpoint();
        writeln!(io::stdout(), "listening on {endpoint} with the bucket {BUCKET} and the key {ACCESS_KEY_ID}")?;
        server.ended().await;
        Ok(())
    })
}
