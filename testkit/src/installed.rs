//! What is installed on this machine. The crate has this file, and so has the build script beside it, so that both say the same.

use std::path::PathBuf;

/// Where Debian puts a version's programs.
const VERSIONS: &str = "/usr/lib/postgresql";
/// What a server and its client need. Removing the package leaves folders behind, and a client's package has no server.
const PROGRAMS: [&str; 3] = ["initdb", "postgres", "psql"];

/// Where distributions put the server of Redis (Debian's package: `redis-server`).
const REDIS: [&str; 3] = ["/usr/bin/redis-server", "/usr/local/bin/redis-server", "/usr/sbin/redis-server"];

/// The server of Redis.
pub(crate) fn redis_server() -> Option<PathBuf> {
    REDIS.into_iter().map(PathBuf::from).find(|place| place.is_file())
}

/// The folder of the programs of the newest PostgreSQL that is there whole (Debian's package: `postgresql`).
pub(crate) fn postgres_programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).ok()?.flatten().map(|entry| entry.path());
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let is_whole = |version: &PathBuf| PROGRAMS.iter().all(|name| version.join("bin").join(name).is_file());
    Some(versions.filter(is_whole).max_by_key(number)?.join("bin"))
}
