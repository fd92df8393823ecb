//! The PostgreSQL port of a site with tokens and TLS, asked by the real `psql`.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anabranch_e2e::{Process, Site, clients, gate, ports, until};
use anabranch_testkit::servers::Certificates;

const VIEWS: &str = "
CREATE TABLE clicks (ts TIMESTAMP NOT NULL, page TEXT, amount BIGINT)
WITH (connector = 'log', topic = 'clicks', format = 'json', event_time = 'ts', partitions = 1);
CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page;
CREATE MATERIALIZED VIEW revenue AS SELECT sum(amount) AS total FROM clicks;
";
const EVENTS: &str = "{\"ts\":\"2026-01-01T00:00:00Z\",\"page\":\"a\",\"amount\":7}\n\
    {\"ts\":\"2026-01-01T00:00:01Z\",\"page\":\"b\",\"amount\":8}\n\
    {\"ts\":\"2026-01-01T00:00:02Z\",\"page\":\"a\",\"amount\":9}\n";
/// Generous: the tests share few cores.
const WAIT: Duration = Duration::from_secs(180);

/// A site that lets in nobody without a token, and a `psql` that asks it.
struct Guarded {
    /// Goes first: what it wrote is read while its folder is there.
    dev: Process,
    site: Site,
    certificates: Certificates,
    psql: PathBuf,
    port: u16,
    _folder: tempfile::TempDir,
}

/// Who asks, and how.
struct Client<'a> {
    user: &'a str,
    password: &'a str,
    /// What the connection string says beside.
    options: String,
}

impl Guarded {
    /// `None` where there is no `psql`, or where certificates cannot be made.
    fn start(test: &str, make_tokens: impl FnOnce(&Site) -> Vec<String>) -> Option<(Self, Vec<String>)> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let needed = clients::psql().and_then(|psql| Ok((psql, Certificates::make(folder.path())?)));
        let (psql, certificates) = match needed {
            Ok(needed) => needed,
            Err(reason) => {
                gate::skip(test, &reason);
                return None;
            }
        };
        let port = ports::free();
        let (pem, authority) = (certificates.server.display(), certificates.authority.display());
        let settings = format!(
            "[access]\nmode = 'tokens'\nrefresh = '100ms'\nfailures_per_minute = 100000\n\
             [tls]\ncert = '{pem}'\nkey = '{pem}'\nclient_ca = '{authority}'\n\
             [landing]\nmax_age = '200ms'\n\
             [serving]\npostgres_listen = '127.0.0.1:{port}'\n"
        );
        let site = Site::new(VIEWS, &settings);
        let tokens = make_tokens(&site);
        let dev = site.spawn("dev");
        let guarded = Self {
            dev,
            site,
            certificates,
            psql,
            port,
            _folder: folder,
        };
        Some((guarded, tokens))
    }

    fn wait_ready(&mut self, client: &Client<'_>) {
        until("psql is let in", WAIT, || {
            assert!(self.dev.ended().is_none(), "`dev` ended instead of becoming ready");
            self.ask(client, &["-c", "SELECT 1"]).status.success().then_some(())
        });
    }

    /// Sends the events; what `anabranch.at_least` has to say for an answer that counts them.
    fn ingest(&self, token: &str) -> String {
        let url = format!("https://127.0.0.1:{}", self.site.ports()[2]);
        let authority = self.certificates.authority.to_str().expect("a plain path");
        let args = [
            "ingest", "clicks", "-", "--url", &url, "--ca", authority, "--token", token,
        ];
        until("events are taken", WAIT, || {
            let sent = self.site.cli_with_input(&args, EVENTS.as_bytes());
            (sent.code == Some(0)).then_some(())
        });
        "clicks/0=3".into()
    }

    /// Connects as people do who are told a name: the address comes from elsewhere.
    fn connection(&self, client: &Client<'_>) -> String {
        format!(
            "host=localhost hostaddr=127.0.0.1 port={} user={} dbname=anabranch {}",
            self.port, client.user, client.options
        )
    }

    fn command(&self, client: &Client<'_>, args: &[&str]) -> Command {
        let mut command = Command::new(&self.psql);
        command
            .args(["-X", "-w", "-At", "-F", " ", "-v", "VERBOSITY=verbose", "-d"])
            .arg(self.connection(client))
            .args(args)
            .env("PGPASSWORD", client.password)
            .env("PGCONNECT_TIMEOUT", "60");
        command
    }

    fn ask(&self, client: &Client<'_>, args: &[&str]) -> Output {
        self.command(client, args).output().expect("psql can be run")
    }

    #[track_caller]
    fn told(&self, client: &Client<'_>, args: &[&str]) -> String {
        let output = self.ask(client, args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    #[track_caller]
    fn refused(&self, client: &Client<'_>, args: &[&str]) -> String {
        let output = self.ask(client, args);
        assert!(
            !output.status.success(),
            "{args:?} is answered: {}",
            text(&output.stdout)
        );
        text(&output.stderr)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn verified(authority: &Path) -> String {
    format!("sslmode=verify-full sslrootcert={}", authority.display())
}

fn tokens(site: &Site) -> Vec<String> {
    let token = |args: &[&str]| {
        let made = site.cli(&[&["token", "create"], args, &["--config", site.config()]].concat());
        made.success().stdout.trim().to_owned()
    };
    vec![
        token(&["--role", "admin", "--name", "boss"]),
        token(&["--role", "read", "--name", "reader", "--views", "pages"]),
    ]
}

#[test]
fn psql_is_let_in_by_scram_over_tls() {
    let _gate = gate::heavy();
    let Some((mut guarded, tokens)) = Guarded::start("psql_is_let_in_by_scram_over_tls", tokens) else {
        return;
    };
    let [boss_token, reader_token] = tokens.as_slice() else {
        panic!("two tokens are made");
    };
    let secured = verified(&guarded.certificates.authority);
    let client = |user, password, options: &str| Client {
        user,
        password,
        options: options.to_owned(),
    };
    let reader = client("reader", reader_token.as_str(), &secured);
    guarded.wait_ready(&reader);
    let at_least = guarded.ingest(boss_token);
    let covering = format!(
        "SET anabranch.require = 'exact'; SET anabranch.timeout = '60s'; SET anabranch.at_least = '{at_least}'"
    );
    let pages = "SELECT page, clicks FROM pages ORDER BY page";
    let answer = ["-q", "-c", &covering, "-c", pages];
    assert_eq!(guarded.told(&reader, &answer), "a 2\nb 1\n");
    assert!(guarded.told(&reader, &["-c", "\\conninfo"]).contains("TLSv1.3"));

    // One view is all there is for this reader; the administrator sees both.
    let hidden = guarded.refused(&reader, &["-c", "SELECT total FROM revenue"]);
    assert!(hidden.contains("42P01") && !hidden.contains("42501"), "{hidden}");
    let listed = guarded.told(&reader, &["-c", "\\dv"]);
    assert!(listed.contains("pages") && !listed.contains("revenue"), "{listed}");
    let boss = client("boss", boss_token.as_str(), &secured);
    assert_eq!(
        guarded.told(&boss, &["-q", "-c", &covering, "-c", "SELECT total FROM revenue"]),
        "24\n"
    );

    // Encrypted without looking at the certificate; and not at all, from this machine itself.
    for options in ["sslmode=require", "sslmode=disable"] {
        assert_eq!(
            guarded.told(&client("reader", reader_token, options), &answer),
            "a 2\nb 1\n"
        );
    }
    strangers_are_turned_away(&guarded, boss_token, reader_token);
    a_demand_that_is_not_met_is_refused(&guarded, &reader);
    ctrl_c_cancels(&guarded, &reader);
    assert_eq!(guarded.told(&reader, &answer), "a 2\nb 1\n", "and it goes on");
}

fn strangers_are_turned_away(guarded: &Guarded, boss_token: &str, reader_token: &str) {
    let secured = verified(&guarded.certificates.authority);
    let ask = ["-c", "SELECT 1"];
    for (user, password) in [
        ("reader", "wrong"),
        ("reader", ""),
        ("reader", boss_token),
        ("nobody", reader_token),
        ("nobody", "wrong"),
    ] {
        let refused = guarded.refused(
            &Client {
                user,
                password,
                options: secured.clone(),
            },
            &ask,
        );
        let expected = match password {
            "" => "no password supplied".to_owned(),
            _ => format!("password authentication failed for user \"{user}\""),
        };
        assert!(refused.contains(&expected), "{user}: {refused}");
        assert!(!refused.contains(boss_token) && !refused.contains(reader_token));
    }
    // Clients turn away a server that is not who it says, before they send anything.
    let elsewhere = tempfile::tempdir().expect("a folder can be made");
    let others = Certificates::make(elsewhere.path()).expect("openssl has made certificates before");
    let reader = |options: String| Client {
        user: "reader",
        password: reader_token,
        options,
    };
    let refused = guarded.refused(&reader(verified(&others.authority)), &ask);
    assert!(refused.contains("certificate verify failed"), "{refused}");
    let misnamed = secured.replace("sslmode", "host=elsewhere.example sslmode");
    let refused = guarded.refused(&reader(misnamed), &ask);
    assert!(refused.contains("does not match host name"), "{refused}");
}

fn a_demand_that_is_not_met_is_refused(guarded: &Guarded, reader: &Client<'_>) {
    let pages = "SELECT clicks FROM pages";
    let beyond = "SET anabranch.timeout = '50ms'; SET anabranch.at_least = 'clicks/0=1000000'";
    let refused = guarded.refused(reader, &["-c", beyond, "-c", pages]);
    assert!(refused.contains("55000"), "{refused}");
    let wrong = guarded.refused(reader, &["-c", "SET anabranch.require = 'perhaps'"]);
    assert!(wrong.contains("22023"), "{wrong}");
    let shown = guarded.told(
        reader,
        &[
            "-q",
            "-c",
            "SET anabranch.require = 'exact'",
            "-c",
            "SHOW anabranch.require",
            "-c",
            "RESET ALL",
            "-c",
            "SHOW anabranch.require",
        ],
    );
    assert_eq!(shown, "exact\n\n");
}

/// The cancel request comes over a connection of its own, which nobody has authenticated.
fn ctrl_c_cancels(guarded: &Guarded, reader: &Client<'_>) {
    let endless = "SELECT count(*) FROM pages a, generate_series(1, 4000000) b, generate_series(1, 4000000) c \
        WHERE a.clicks + b.value > c.value";
    let mut psql = guarded
        .command(reader, &["-c", "SELECT 'begun'", "-c", endless])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql can be run");
    let mut first = String::new();
    let mut stdout = BufReader::new(psql.stdout.take().expect("it is piped"));
    stdout.read_line(&mut first).expect("psql writes text");
    assert_eq!(first, "begun\n");
    // What is pressed before the second statement has begun cancels nothing.
    let id = psql.id().to_string();
    let status = until("the statement is cancelled", WAIT, || {
        let pressed = Command::new("kill").args(["-INT", &id]).status();
        assert!(pressed.is_ok(), "signals can be sent");
        psql.try_wait().expect("psql can be waited for")
    });
    let mut said = String::new();
    let mut stderr = psql.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut said).expect("psql writes text");
    assert!(!status.success() && said.contains("57014"), "{status}: {said}");
}
