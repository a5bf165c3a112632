//! A real PgBouncer in transaction mode before a [`Postgres`]: a client has a server
//! connection for one transaction only. It can be paused and resumed.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::host::signal;
use crate::ports::Ports;
use crate::postgres::{self, DATABASE, PASSWORD, Postgres, USER};

const GUARD: Duration = Duration::from_secs(60);

/// A pool on a free port. Dropping it kills the process.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    ports: Ports,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Starts one with `size` connections to the server.
    pub async fn start(server: &Postgres, size: u32) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("lockgate-test-pgbouncer-")
            .tempdir()
            .expect("make the folder of PgBouncer");
        let ports = Ports::take();
        let path = folder.path().display();
        let write = |name: &str, text: String| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).expect("write the settings of PgBouncer");
            postgres::give(&file);
            file
        };
        write("users", format!("\"{USER}\" \"{PASSWORD}\"\n"));
        let settings = write(
            "pgbouncer.ini",
            format!(
                "[databases]\n{DATABASE} = host=127.0.0.1 port={} dbname={DATABASE}\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
                 auth_type = scram-sha-256\nauth_file = {path}/users\nlogfile = {path}/log\n\
                 pool_mode = transaction\ndefault_pool_size = {size}\nserver_login_retry = 1\n",
                server.port(),
                ports.at(0)
            ),
        );
        postgres::give(folder.path());
        let child = postgres::unprivileged("/usr/sbin/pgbouncer")
            .arg(settings)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start PgBouncer: is the package pgbouncer installed?");
        let pool = Self {
            child,
            ports,
            _folder: folder,
        };
        let begin = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", pool.ports.at(0)))
            .await
            .is_err()
        {
            assert!(begin.elapsed() < GUARD, "PgBouncer did not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        pool
    }

    /// URL of the host's user with the password, percent-encoded.
    pub fn url(&self) -> String {
        postgres::url(self.ports.at(0), DATABASE)
    }

    /// SIGSTOP: connections stay open, nothing is answered.
    pub fn pause(&self) {
        signal(self.child.id(), "STOP");
    }

    /// Ends [`PgBouncer::pause`].
    pub fn resume(&self) {
        signal(self.child.id(), "CONT");
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
