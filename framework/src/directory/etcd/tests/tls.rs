//! etcd that speaks TLS, and asks for a certificate itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::*;

/// An etcd that answers only those who show a certificate of its own authority.
struct Server {
    child: Child,
    folder: TempDir,
    world: World,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for authority in ["ours", "other"] {
            authority_with_two(folder.path(), authority);
        }
        let (client, peer) = (bastide_testkit::free_port(), bastide_testkit::free_port());
        let (client, peer) =
            (format!("https://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let file = |name| folder.path().join(name).display().to_string();
        let child = Command::new("etcd")
            .args(["--name", "test", "--data-dir", &file("data"), "--logger", "zap"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}"), "--client-cert-auth"])
            .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
            .args(["--cert-file", &file("ours-server.pem")])
            .args(["--key-file", &file("ours-server.key")])
            .args(["--trusted-ca-file", &file("ours-ca.pem")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed");
        Self { child, folder, world: World::at(client, LONG) }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.path().join(name))
    }

    async fn etcd(&self, ca: &str, own: Option<&str>) -> Etcd {
        let settings = EtcdSettings {
            ca: self.file(&format!("{ca}-ca.pem")),
            cert: own.and_then(|own| self.file(&format!("{own}-node.pem"))),
            key: own.and_then(|own| self.file(&format!("{own}-node.key"))),
            ..self.world.settings()
        };
        Etcd::connect(settings, Handle::current()).await.expect("settings are right")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it ends");
    }
}

/// An authority, and certificates by it for a server and for a node.
fn authority_with_two(folder: &Path, name: &str) {
    let write = |file: &str, text: String| {
        fs::write(folder.join(format!("{name}-{file}")), text).expect("writable");
    };
    let key = || KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = key();
    write("ca.pem", params.self_signed(&ca_key).expect("a certificate").pem());
    let issuer = Issuer::new(params, ca_key);
    for who in ["server", "node"] {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
        // etcd asks itself through its own certificate, as a client.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let own = key();
        write(&format!("{who}.pem"), params.signed_by(&own, &issuer).expect("signed").pem());
        write(&format!("{who}.key"), own.serialize_pem());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_a_certificate_of_the_authority_is_let_in_and_nobody_else() {
    let server = Server::start();
    let ours = server.etcd("ours", Some("ours")).await;
    until("an answer over TLS", async || ours.ping().await.is_ok()).await;
    let _node = Node::start(ours.clone(), info("a"));
    Follower::start(ours.clone()).sees(&["a"]).await;

    for (ca, own) in [("ours", None), ("ours", Some("other")), ("other", Some("ours"))] {
        let etcd = server.etcd(ca, own).await;
        let text = etcd.ping().await.expect_err("it is not let in").to_string();
        assert!(text.contains("discovery.etcd"), "{text}");
        if ca == "other" {
            assert!(text.contains("certificate"), "{text}");
        }
    }
}
