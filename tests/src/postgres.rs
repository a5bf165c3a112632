//! A real Postgres with the users table of a deployment, on a free port and with a
//! folder of its own. It can be stopped, paused and started again. It never runs as
//! root, which Postgres refuses.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::certificates;
use crate::host::{signal, try_signal};
use crate::ports::Ports;

/// The host's user: it may read the columns that it needs and no others.
pub const USER: &str = "app_user";
/// Its password.
pub const PASSWORD: &str = "pg/with+chars=and%41:@#?";
/// Database of the users table.
pub const DATABASE: &str = "app";
const TESTER: &str = "tester";
const TESTER_PASSWORD: &str = "tester-password";
/// Who runs servers if the tests run as root: nobody and nogroup.
const NOBODY: u32 = 65_534;
const GUARD: Duration = Duration::from_secs(60);

/// A command that does not run as root.
pub(crate) fn unprivileged(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Gives a file or folder to whoever runs the servers.
pub(crate) fn give(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("give a file away");
    }
}

fn is_root() -> bool {
    let own = std::fs::metadata("/proc/self").expect("read /proc");
    std::os::unix::fs::MetadataExt::uid(&own) == 0
}

/// Who may connect how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// The server has none.
    Off,
    /// Nobody but the tester may connect without.
    Demanded,
}

/// A Postgres server. Dropping it stops it.
#[derive(Debug)]
pub struct Postgres {
    child: Option<Child>,
    ports: Ports,
    folder: tempfile::TempDir,
}

impl Postgres {
    /// Starts one without TLS, with an empty database.
    pub async fn start() -> Self {
        Self::start_with(Tls::Off).await
    }

    /// Starts one with an empty database.
    pub async fn start_with(tls: Tls) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("lockgate-test-postgres-")
            .tempdir()
            .expect("make the folder of Postgres");
        give(folder.path());
        let mut server = Self {
            child: None,
            ports: Ports::take(),
            folder,
        };
        server.initialise(tls);
        server.start_again().await;
        let password = PASSWORD.replace('\'', "''");
        server
            .sql_in(
                "postgres",
                &format!("CREATE ROLE {USER} LOGIN PASSWORD '{password}'"),
            )
            .await;
        server
            .sql_in("postgres", &format!("CREATE DATABASE {DATABASE}"))
            .await;
        server
    }

    fn initialise(&self, tls: Tls) {
        let pwfile = self.folder.path().join("superuser");
        std::fs::write(&pwfile, TESTER_PASSWORD).expect("write a password file");
        give(&pwfile);
        let done = unprivileged(binary("initdb"))
            .args([
                "--no-sync",
                "--username",
                TESTER,
                "--auth=scram-sha-256",
                "--encoding=UTF8",
            ])
            .args(["--no-locale", "--pwfile"])
            .arg(&pwfile)
            .arg("--pgdata")
            .arg(self.data())
            .current_dir(self.folder.path())
            .output()
            .expect("run initdb: is the package postgresql installed?");
        assert!(
            done.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        let folder = self.folder.path().display();
        let mut settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{folder}'\n\
             fsync = off\nshared_buffers = 16MB\nmax_connections = 60\nlog_connections = on\n",
            self.port()
        );
        let mut hba = format!("host all {TESTER} 127.0.0.1/32 scram-sha-256\n");
        match tls {
            Tls::Off => hba += "host all all 127.0.0.1/32 scram-sha-256\n",
            Tls::Demanded => {
                certificates::make(self.folder.path());
                for name in ["server.pem", "server.key"] {
                    give(&self.folder.path().join(name));
                }
                settings += &format!(
                    "ssl = on\nssl_cert_file = '{folder}/server.pem'\nssl_key_file = '{folder}/server.key'\n"
                );
                hba += "hostssl all all 127.0.0.1/32 scram-sha-256\n";
            }
        }
        let append = |name: &str, text: &str| {
            let path = self.data().join(name);
            let before = std::fs::read_to_string(&path).expect("read what initdb made");
            std::fs::write(path, before + text).expect("write the settings");
        };
        append("postgresql.conf", &settings);
        std::fs::write(self.data().join("pg_hba.conf"), hba).expect("write pg_hba.conf");
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The certificate authority of [`Tls::Demanded`].
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.ports.at(0)
    }

    /// URL of the host's user with the password, percent-encoded.
    pub fn url(&self) -> String {
        self.url_to(DATABASE)
    }

    /// As [`Postgres::url`], to another database.
    pub fn url_to(&self, database: &str) -> String {
        url(self.port(), database)
    }

    /// URL with the placeholder of the compose file instead of a password.
    pub fn bare_url(&self) -> String {
        format!(
            "postgresql://{USER}:${{POSTGRES_PASSWORD}}@127.0.0.1:{}/{DATABASE}",
            self.port()
        )
    }

    /// A file with the password of the host's user and a line end.
    pub fn password_file(&self) -> PathBuf {
        let path = self.folder.path().join("password");
        std::fs::write(&path, format!("{PASSWORD}\n")).expect("write the password file");
        path
    }

    /// Starts it (again) with the data that it had, and waits until it answers.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "stop Postgres first");
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log file");
        let child = unprivileged(binary("postgres"))
            .arg("-D")
            .arg(self.data())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start Postgres: is the package postgresql installed?");
        self.child = Some(child);
        let begin = Instant::now();
        while let Err(error) = self.connect("postgres").await {
            assert!(
                begin.elapsed() < GUARD,
                "Postgres did not start: {error:?}: {}",
                std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it at once; later connections are refused.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal_family(child.id(), "CONT");
            // Immediate shutdown: it ends its own processes.
            signal(child.id(), "QUIT");
            let _ = child.wait();
        }
    }

    /// SIGSTOP for all its processes: connections stay open, nothing is answered.
    pub fn pause(&self) {
        signal_family(self.child.as_ref().expect("Postgres runs").id(), "STOP");
    }

    /// Ends [`Postgres::pause`].
    pub fn resume(&self) {
        signal_family(self.child.as_ref().expect("Postgres runs").id(), "CONT");
    }

    /// Runs statements as an administrator.
    pub async fn sql(&self, statements: &str) {
        self.sql_in(DATABASE, statements).await;
    }

    /// As [`Postgres::sql`], in another database.
    pub async fn sql_in(&self, database: &str, statements: &str) {
        let client = self.connect(database).await.expect("connect to Postgres");
        let done = client.batch_execute(statements).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// The first column of the first row, as text.
    pub async fn ask(&self, query: &str) -> Option<String> {
        let client = self.connect(DATABASE).await.expect("connect to Postgres");
        let rows = client.simple_query(query).await;
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        rows.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }

    async fn connect(
        &self,
        database: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port())
            .user(TESTER)
            .password(TESTER_PASSWORD)
            .dbname(database)
            .connect(tokio_postgres::NoTls)
            .await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// URL of the host's user at a port.
pub(crate) fn url(port: u16, database: &str) -> String {
    let password = utf8_percent_encode(PASSWORD, NON_ALPHANUMERIC);
    format!("postgresql://{USER}:{password}@127.0.0.1:{port}/{database}")
}

/// A program of the newest Postgres that is installed; Debian keeps them out of the path.
fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .max();
    match newest {
        Some(version) => PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/{name}")),
        None => PathBuf::from(name),
    }
}

/// Signals a server and its processes, some of which may end meanwhile.
fn signal_family(server: u32, name: &str) {
    for pid in family(server) {
        let there = try_signal(pid, name);
        assert!(there || pid != server, "no signal {name} to {pid}");
    }
}

/// A process and its children.
fn family(pid: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("read /proc").flatten();
    let children = entries.filter_map(|entry| {
        let child: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // After the name in brackets: the state, then the parent.
        let (_, after) = stat.rsplit_once(')')?;
        let parent: u32 = after.split_whitespace().nth(1)?.parse().ok()?;
        (parent == pid).then_some(child)
    });
    std::iter::once(pid).chain(children).collect()
}
