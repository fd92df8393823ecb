//! Apache Kafka from Maven Central: one broker that is its own controller (KRaft), on the loopback address.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::Rng;

use super::certificates::Certificates;
use super::process::Guarded;
use super::{free_port, provision, run, skip};

const VERSION: &str = "4.1.1";
const LOG4J_VERSION: &str = "2.24.3";
const START_TIMEOUT: Duration = Duration::from_secs(180);
const SCRAM: &str = "SCRAM-SHA-512";
const USER: &str = "anabranch";
const PASSWORD: &str = "anabranch-test-secret";

/// A running broker. Topics are not created by using them. Members of a consumer group may set session time-outs from a
/// second on.
#[derive(Debug)]
pub struct KafkaServer {
    libraries: PathBuf,
    dir: PathBuf,
    address: SocketAddr,
    secure: Option<Secure>,
    process: Mutex<Option<Guarded>>,
}

/// A second listener of a broker: SASL/SCRAM over TLS.
#[derive(Clone, Debug)]
struct Secure {
    address: SocketAddr,
    certificates: Certificates,
}

/// The broker that this test binary shares; `None`, with the reason printed, where none can run.
pub fn kafka() -> Option<&'static KafkaServer> {
    static SERVER: OnceLock<Result<KafkaServer, String>> = OnceLock::new();
    match SERVER.get_or_init(KafkaServer::provision_and_start) {
        Ok(server) => Some(server),
        Err(reason) => {
            skip(reason);
            None
        }
    }
}

impl KafkaServer {
    /// A broker of its own, for tests that stop it.
    ///
    /// # Errors
    /// The reason why none can run here.
    pub fn provision_and_start() -> Result<Self, String> {
        Self::provision(false)
    }

    /// A broker of its own that can also be reached by SASL/SCRAM over TLS, with a certificate of an authority that nobody
    /// knows: see [`secure`](Self::secure).
    ///
    /// # Errors
    /// The reason why none can run here.
    pub fn provision_and_start_secure() -> Result<Self, String> {
        Self::provision(true)
    }

    fn provision(secure: bool) -> Result<Self, String> {
        run(Command::new("java").arg("-version")).map_err(|reason| format!("Kafka needs Java: {reason}"))?;
        let libraries = provision(&format!("kafka-{VERSION}"), download)?;
        let dir = tempfile::Builder::new()
            .prefix("anabranch-kafka-")
            .tempdir()
            .map_err(|error| format!("create a folder for Kafka: {error}"))?
            .keep();
        let mut reason = String::new();
        // Another process may take a port between our finding it free and Kafka's binding it.
        for _ in 0..3 {
            let (port, controller) = (free_port()?, free_port()?);
            let secure = if secure {
                Some(Secure {
                    address: loopback(free_port()?),
                    certificates: Certificates::make(&dir)?,
                })
            } else {
                None
            };
            let server = Self {
                libraries: libraries.clone(),
                dir: dir.clone(),
                address: loopback(port),
                secure,
                process: Mutex::new(None),
            };
            server.format(controller)?;
            match server.restart() {
                Ok(()) => return Ok(server),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    /// `host:port`, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// The properties with which a client reaches the broker by SASL/SCRAM over TLS; `None` unless it was started so.
    pub fn secure(&self) -> Option<BTreeMap<String, String>> {
        let secure = self.secure.as_ref()?;
        let properties = [
            ("bootstrap.servers", secure.address.to_string()),
            ("security.protocol", "sasl_ssl".to_owned()),
            ("sasl.mechanism", SCRAM.to_owned()),
            ("sasl.username", USER.to_owned()),
            ("sasl.password", PASSWORD.to_owned()),
            ("ssl.ca.location", secure.certificates.authority.display().to_string()),
        ];
        Some(properties.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// Kills the broker; its data stay. [`restart`](Self::restart) brings it back.
    pub fn stop(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(process) = process {
            process.kill();
        }
    }

    /// Starts the broker on the same port with the same data, and waits until it answers.
    ///
    /// # Errors
    /// What it printed last, when it does not come up.
    pub fn restart(&self) -> Result<(), String> {
        self.stop();
        let mut java = self.java();
        java.arg("kafka.Kafka").arg(self.dir.join("server.properties"));
        let process = Guarded::spawn(&self.dir, &java)?;
        let deadline = Instant::now() + START_TIMEOUT;
        while let Err(error) = metadata(self.address) {
            if Instant::now() > deadline {
                let printed = process.last_words();
                process.kill();
                return Err(format!(
                    "Kafka did not come up in {START_TIMEOUT:?}: {error}\n{printed}"
                ));
            }
            sleep(Duration::from_millis(100));
        }
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.args([
            "-Xms128m",
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dlog4j2.level=WARN",
            "-cp",
        ]);
        java.arg(self.libraries.join("*"));
        java
    }

    fn format(&self, controller: u16) -> Result<(), String> {
        let data = self.dir.join("data");
        let _ = fs::remove_dir_all(&data);
        let properties = self.dir.join("server.properties");
        let address = self.address;
        let (listener, settings) = self.secure.as_ref().map_or_else(Default::default, Secure::settings);
        let text = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://{address}{listener},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://{address}{listener}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             log.dirs={}\n\
             auto.create.topics.enable=false\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=4\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n\
             group.min.session.timeout.ms=1000\n\
             {settings}",
            data.display()
        );
        fs::write(&properties, text).map_err(|error| format!("write {}: {error}", properties.display()))?;
        let mut format = self.java();
        format
            .args(["kafka.tools.StorageTool", "format", "-t", &cluster_id(), "-c"])
            .arg(&properties);
        if self.secure.is_some() {
            format.args(["--add-scram", &format!("{SCRAM}=[name={USER},password={PASSWORD}]")]);
        }
        run(&mut format).map(drop)
    }
}

impl Secure {
    /// What follows the plain listener, and the settings it needs.
    fn settings(&self) -> (String, String) {
        let settings = format!(
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL\n\
             sasl.enabled.mechanisms={SCRAM}\n\
             listener.name.sasl_ssl.{}.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             ssl.keystore.type=PEM\n\
             ssl.keystore.location={}\n",
            SCRAM.to_lowercase(),
            self.certificates.server.display()
        );
        (format!(",SASL_SSL://{}", self.address), settings)
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Sixteen random bytes in the base64 that Kafka writes ids in.
fn cluster_id() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    let mut id: String = (0..21)
        .map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]))
        .collect();
    // Of the last letter only two bits count; the others must be zero.
    id.push('A');
    id
}

/// Fetches Kafka's jars by artifact name.
fn download(into: &PathBuf) -> Result<(), String> {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    let pom = format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>anabranch</groupId><artifactId>test-kafka</artifactId>\
         <version>1</version><dependencies>{}{}</dependencies></project>",
        dependency("org.apache.kafka", "kafka_2.13", VERSION),
        dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
    );
    let work = tempfile::tempdir().map_err(|error| format!("create a folder for Maven: {error}"))?;
    let file = work.path().join("pom.xml");
    fs::write(&file, pom).map_err(|error| format!("write {}: {error}", file.display()))?;
    let mut maven = Command::new("mvn");
    maven
        .args(["-q", "-B", "-f"])
        .arg(&file)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", Path::new(into).display()));
    run(&mut maven)
        .map(drop)
        .map_err(|reason| format!("Kafka is not in the test cache and cannot be fetched: {reason}"))
}

/// Asks for the cluster's metadata; an answer that names a broker means that it serves.
fn metadata(address: SocketAddr) -> Result<(), String> {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        // Size, api key 3 (Metadata), version 4, correlation id 1, client id "t", no topics, no topic creation.
        stream.write_all(&[0, 0, 0, 16, 0, 3, 0, 4, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 0, 0])?;
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let mut answer = vec![0; u32::from_be_bytes(size).min(1 << 20) as usize];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| error.to_string())?;
    // Correlation id, throttle time, number of brokers.
    match answer.get(8..12) {
        Some([0, 0, 0, count]) if *count > 0 => Ok(()),
        _ => Err("it knows no broker yet".into()),
    }
}
