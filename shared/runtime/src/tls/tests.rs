use std::net::SocketAddr;

use anabranch_testkit::servers::Certificates;
use anabranch_testkit::skip;
use axum::extract::ConnectInfo;
use axum::routing::get;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::http;

/// Certificates in a folder; `None` where there is no `openssl` to make them.
fn certificates() -> Option<(TempDir, Certificates)> {
    let folder = tempfile::tempdir().unwrap();
    match Certificates::make(folder.path()) {
        Ok(certificates) => Some((folder, certificates)),
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

fn settings(certificates: &Certificates, mutual: bool) -> TlsSettings {
    TlsSettings {
        cert: Some(certificates.server.clone()),
        key: Some(certificates.server.clone()),
        client_ca: mutual.then(|| certificates.authority.clone()),
        ca: Some(certificates.authority.clone()),
    }
}

async fn serve(tls: &Tls, clients: Clients, shutdown: &Shutdown) -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let listener = Listener::with_tls(tcp, tls.clone(), clients);
    let echo = async |ConnectInfo(peer): ConnectInfo<Peer>| format!("{} {}", peer.encrypted, peer.address.ip());
    let router = axum::Router::new().route("/peer", get(echo));
    tokio::spawn(http::serve(listener, router, shutdown.clone()));
    address
}

fn caller(settings: &TlsSettings, own: Option<&Tls>) -> reqwest::Client {
    let config = client(settings, own).unwrap();
    reqwest::Client::builder()
        .use_preconfigured_tls(config)
        .build()
        .unwrap()
}

async fn fetch(caller: &reqwest::Client, address: SocketAddr) -> Result<String, reqwest::Error> {
    caller.get(format!("https://{address}/peer")).send().await?.text().await
}

#[tokio::test]
async fn requests_pass_encrypted_and_others_do_not_pass() {
    let Some((_folder, certificates)) = certificates() else {
        return;
    };
    let settings = settings(&certificates, false);
    let tls = Tls::load(&settings).unwrap().unwrap();
    let shutdown = Shutdown::new();
    let address = serve(&tls, Clients::Anybody, &shutdown).await;
    // A client that never says anything holds up nobody.
    let _silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(
        fetch(&caller(&settings, None), address).await.unwrap(),
        "true 127.0.0.1"
    );
    let distrusting = caller(&TlsSettings::default(), None);
    assert!(fetch(&distrusting, address).await.is_err());
    assert!(reqwest::get(format!("http://{address}/peer")).await.is_err());
    shutdown.cancel();
}

#[tokio::test]
async fn where_certificates_are_asked_for_strangers_do_not_get_in() {
    let Some((_folder, certificates)) = certificates() else {
        return;
    };
    let settings = settings(&certificates, true);
    let tls = Tls::load(&settings).unwrap().unwrap();
    let shutdown = Shutdown::new();
    let services_only = serve(&tls, Clients::Certified, &shutdown).await;
    let (service, stranger) = (caller(&settings, Some(&tls)), caller(&settings, None));
    assert_eq!(fetch(&service, services_only).await.unwrap(), "true 127.0.0.1");
    assert!(fetch(&stranger, services_only).await.is_err());
    let Some((_other_folder, others)) = self::certificates() else {
        return;
    };
    let other = Tls::load(&self::settings(&others, true)).unwrap().unwrap();
    assert!(fetch(&caller(&settings, Some(&other)), services_only).await.is_err());
    let public = serve(&tls, Clients::Anybody, &shutdown).await;
    assert_eq!(fetch(&stranger, public).await.unwrap(), "true 127.0.0.1");
    shutdown.cancel();
}

/// The certificate that a new connection is shown.
async fn shown(settings: &TlsSettings, address: SocketAddr) -> Vec<u8> {
    let connector = TlsConnector::from(Arc::new(client(settings, None).unwrap()));
    let tcp = TcpStream::connect(address).await.unwrap();
    let stream = connector.connect("127.0.0.1".try_into().unwrap(), tcp).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_changed_certificate_counts_for_new_connections_and_drops_none() {
    let Some((_folder, certificates)) = certificates() else {
        return;
    };
    let settings = settings(&certificates, false);
    let tls = Tls::load(&settings).unwrap().unwrap();
    let shutdown = Shutdown::new();
    let address = serve(&tls, Clients::Anybody, &shutdown).await;
    let kept = caller(&settings, None);
    fetch(&kept, address).await.unwrap();
    let before = shown(&settings, address).await;
    assert!(!tls.reload().unwrap(), "nothing has changed");

    certificates.issue("server").unwrap();
    assert!(tls.reload().unwrap());
    let after = shown(&settings, address).await;
    assert_ne!(before, after);
    fetch(&kept, address).await.unwrap();

    std::fs::write(&certificates.server, "half a certificate").unwrap();
    assert!(tls.reload().is_err());
    assert_eq!(
        shown(&settings, address).await,
        after,
        "what cannot be used is not used"
    );
    shutdown.cancel();
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let Some((folder, certificates)) = certificates() else {
        return;
    };
    let mut broken = settings(&certificates, false);
    broken.cert = Some(folder.path().join("absent.pem"));
    let refused = |settings: &TlsSettings| Tls::load(settings).unwrap_err().to_string();
    assert!(refused(&broken).contains("absent.pem"), "{}", refused(&broken));

    let mut keyless = settings(&certificates, false);
    keyless.key = Some(certificates.authority.clone());
    assert!(refused(&keyless).contains("no private key"), "{}", refused(&keyless));

    let mut mixed = settings(&certificates, false);
    mixed.cert = Some(certificates.issue("other").unwrap());
    assert!(refused(&mixed).contains("does not go with"), "{}", refused(&mixed));
    assert!(Tls::load(&TlsSettings::default()).unwrap().is_none());
}
