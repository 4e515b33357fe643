//! Sessions that an operator or their owner ends, in a cluster with two gates and two game
//! servers: wherever the client, the player and the one who is told are.

use std::time::Duration;

use bastide::{
    Code,
    client::{Client, ClientError, SignedIn, guest},
    msg,
};
use tokio::{task::JoinSet, time::Instant};

use crate::nodes::{Cluster, Node};

struct Guest {
    signed_in: SignedIn,
    gate: String,
    client: Client,
    resume_token: Vec<u8>,
}

/// Signs a guest in at this gate.
async fn enter(cluster: &Cluster, gate: &Node, device: &str) -> Guest {
    let signed_in = guest(&cluster.accounts.one(), device).await.unwrap();
    let gate = gate.gate();
    let mut client = Client::connect(&gate).await.unwrap();
    let session = client.sign_in(&signed_in.token).await.unwrap();
    Guest { signed_in, gate, client, resume_token: session.resume_token.unwrap() }
}

impl Guest {
    /// The code that ends the connection, and how long it took to hear it.
    async fn ended(&mut self) -> (Code, Duration) {
        let began = Instant::now();
        loop {
            match self.client.receive().await {
                Ok(_) => {}
                Err(ClientError::Kicked(why)) => return (why.code, began.elapsed()),
                Err(e) => panic!("ended without a word: {e}"),
            }
        }
    }

    async fn resume_at(&self, gate: &Node) -> Code {
        let mut client = Client::connect(&gate.gate()).await.unwrap();
        let resume_token = self.resume_token.clone();
        let request = msg::resume::Req { resume_token, received: 0 };
        Code(client.request(&request).await.unwrap().code)
    }

    async fn sign_in_at(&self, gate: &Node) -> Result<(), Code> {
        let mut client = Client::connect(&gate.gate()).await.unwrap();
        match client.sign_in(&self.signed_in.token).await {
            Ok(_) => Ok(()),
            Err(ClientError::Refused(why)) => Err(why.code),
            Err(e) => panic!("no answer: {e}"),
        }
    }
}

#[tokio::test]
async fn an_operator_kicks_and_bans_at_any_node_and_the_socket_closes_on_any_gate() {
    let cluster = Cluster::shared();
    let roles = ["account", "gate", "gate", "game", "game"];
    let [account, one, other, game, game_too] = cluster.nodes(roles).await;
    let told = [&account, &one, &other, &game, &game_too];
    for n in 0..6 {
        let at = if n % 2 == 0 { &one } else { &other };
        let mut guest = enter(&cluster, at, &format!("kicked-{n}")).await;
        let id = guest.signed_in.account_id.to_string();
        let began = Instant::now();
        let args = ["kick", &id, "--reason", "spam"];
        let (exit, said) = cluster.admin(told[n % told.len()], &args).await;
        assert_eq!(
            (exit, said.trim()),
            (Some(0), &*format!("account {id} is kicked: its session is over"))
        );
        let (code, _) = guest.ended().await;
        assert_eq!(code, Code::REMOVED);
        // With the start of the program that gave the order.
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        for gate in [&one, &other] {
            assert_eq!(guest.resume_at(gate).await, Code::RESUME_REFUSED);
        }
        assert_eq!(guest.sign_in_at(if n % 2 == 0 { &other } else { &one }).await, Ok(()));
    }
    let mut guest = enter(&cluster, &one, "banned").await;
    let id = guest.signed_in.account_id.to_string();
    let (exit, said) = cluster.admin(&other, &["ban", &id, "--for", "2h"]).await;
    assert!(exit == Some(0) && said.contains("is banned until"), "{exit:?} {said}");
    assert_eq!(guest.ended().await.0, Code::BANNED);
    for gate in [&one, &other] {
        assert_eq!(guest.sign_in_at(gate).await, Err(Code::BANNED));
    }
    let (exit, said) = cluster.admin(&game, &["unban", &id]).await;
    assert!(exit == Some(0) && said.contains("may sign in again"), "{exit:?} {said}");
    assert_eq!(guest.sign_in_at(&other).await, Ok(()));
    let (exit, said) = cluster.admin(&other, &["account", &id]).await;
    assert_eq!(exit, Some(0), "{said}");
    for shown in [&*format!("account {id}"), "last_sign_in", "unbanned  operator", "signed_in"] {
        assert!(said.contains(shown), "{shown} is not in: {said}");
    }
    let (exit, said) = cluster.admin(&game, &["account", "1"]).await;
    assert!(exit == Some(1) && said.contains("no such account"), "{exit:?} {said}");
    let (exit, said) = cluster.admin(&game, &["unban", "1"]).await;
    assert!(exit == Some(1) && said.contains("no such account"), "{exit:?} {said}");
    assert_eq!(other.logged(&["order done", "what=\"ban\"", &id]), 1, "{}", other.log());
    let (exit, said) = cluster.admin(&other, &["rotate-key"]).await;
    assert!(exit == Some(0) && said.contains("is published, and signs from"), "{exit:?} {said}");
    std::fs::write(cluster.folder.path().join("admin.secret"), "wrong").unwrap();
    let (exit, said) = cluster.admin(&one, &["kick", &id]).await;
    assert!(exit == Some(2) && said.contains("secret"), "{exit:?} {said}");
}

/// The player's game server drains in the moment in which it is told to end the session.
#[tokio::test]
async fn a_kick_reaches_players_that_are_just_moving() {
    let cluster = Cluster::shared();
    let [account, gate, gate_too, leaving, _game] =
        cluster.nodes(["account", "gate", "gate", "game", "game"]).await;
    let mut guests = Vec::new();
    for n in 0..8 {
        guests.push(
            enter(&cluster, if n % 2 == 0 { &gate } else { &gate_too }, &format!("m-{n}")).await,
        );
    }
    // Half of them are away: their sessions wait in the cache while they move.
    for guest in guests.iter_mut().take(4) {
        guest.client = Client::connect(&guest.gate).await.unwrap();
    }
    let mut kicks = JoinSet::new();
    let draining = leaving.drain();
    for (n, guest) in guests.iter().enumerate() {
        let (id, admin) = (guest.signed_in.account_id.to_string(), account.admin());
        let kick = cluster.admin_at(&admin, &["kick", &id]);
        kicks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(n as u64 * 3)).await;
            kick.await
        });
    }
    let (_, said) = tokio::join!(draining, kicks.join_all());
    for (exit, said) in said {
        assert!(exit == Some(0) && said.contains("its session is over"), "{exit:?} {said}");
    }
    for guest in &mut guests[4..] {
        guest.ended().await;
    }
    for guest in &guests {
        assert_eq!(guest.resume_at(&gate).await, Code::RESUME_REFUSED);
    }
}
