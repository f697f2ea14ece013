use std::sync::Arc;

use arkeep_auth::api_token::{ApiTokenDigest, NewApiToken, Owner, Scope};
use arkeep_auth::oidc::RoleMap;
use arkeep_auth::session::{Client, NewSession, OpenOutcome, RefreshToken};
use arkeep_auth::testing::conformance::login_state_store;
use arkeep_auth::{ApiTokenId, ApiTokenStore, OidcProviderId, Role, SessionId, SessionStore};
use arkeep_core::{SystemEntropy, UserId};
use arkeep_server::store::identity::{
    IdentityStore, NewIdentity, NewProvider, ProviderEdit, StoredProvider,
};
use arkeep_server::store::users::{NewUser, User, UserDirectory};
use arkeep_server::store::{Page, Refusal, SecretChange};

use super::users::assert_refused;
use super::{NOON, Sandbox, Store, Tested, after};

pub(super) async fn provider(store: &Store, name: &str) -> StoredProvider {
    let new = NewProvider {
        id: OidcProviderId::mint(NOON, &SystemEntropy),
        name: name.to_owned(),
        issuer: format!("https://{name}.example"),
        client_id: "arkeep".to_owned(),
        client_secret: Some(b"sealed".to_vec()),
        scopes: vec!["email".to_owned()],
        role_claim: Some("groups".to_owned()),
        role_map: [("ops".to_owned(), Role::Operator)].into_iter().collect(),
        enabled: true,
        created_at: NOON,
    };
    store.create_provider(&new).await.expect("a new provider")
}

fn edit(provider: &StoredProvider) -> ProviderEdit {
    let provider = provider.clone();
    ProviderEdit {
        id: provider.id,
        version: provider.version,
        name: provider.name,
        client_id: provider.client_id,
        client_secret: SecretChange::Keep,
        scopes: provider.scopes,
        role_claim: provider.role_claim,
        role_map: provider.role_map,
        enabled: provider.enabled,
        at: after(1),
    }
}

fn new_user(email: &str) -> NewUser {
    NewUser {
        id: UserId::mint(NOON, &SystemEntropy),
        email: email.to_owned(),
        display_name: "Bob".to_owned(),
        role: Role::Viewer,
        password_hash: None,
        created_at: NOON,
    }
}

fn identity(provider: &StoredProvider, subject: &str) -> NewIdentity {
    NewIdentity {
        provider: provider.id,
        issuer: provider.issuer.clone(),
        subject: subject.to_owned(),
    }
}

/// Opens a session in the user's present epoch.
async fn open(store: &Store, user: &User) -> Tested {
    let new = NewSession {
        id: SessionId::mint(NOON, &SystemEntropy),
        user: user.id,
        epoch: user.epoch,
        refresh: RefreshToken::generate(&SystemEntropy).digest(),
        refresh_expires_at: after(1_000),
        ends_at: after(1_000),
        client: Client::default(),
        now: NOON,
    };
    let opened = store.open(&new).await?;
    assert!(matches!(opened, OpenOutcome::Opened(_)), "{opened:?}");
    Ok(())
}

/// A program of the user's in their present epoch.
fn program(user: &User) -> NewApiToken {
    NewApiToken {
        id: ApiTokenId::mint(NOON, &SystemEntropy),
        owner: Owner {
            user: user.id,
            epoch: user.epoch,
        },
        name: "nightly".to_owned(),
        digest: ApiTokenDigest::from_bytes([7; 32]),
        scopes: [Scope::Run].into_iter().collect(),
        expires_at: after(1_000),
        created_at: NOON,
    }
}

/// S1, A10
#[tokio::test]
async fn logins_on_their_way_keep_their_promises() -> Tested {
    let sandbox = Sandbox::new().await;
    let provider = provider(&sandbox.store, "one").await;
    login_state_store::all(Arc::new(sandbox.store.clone()), provider.id).await?;
    Ok(())
}

#[tokio::test]
async fn providers_are_found_as_they_were_made_and_changed() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let made = provider(store, "one").await;
    assert_eq!(store.provider(made.id).await?.as_ref(), Some(&made));

    let other = ProviderEdit {
        name: "two".to_owned(),
        client_secret: SecretChange::Clear,
        role_claim: None,
        role_map: RoleMap::default(),
        ..edit(&made)
    };
    let changed = store.update_provider(&other).await?;

    let expected = StoredProvider {
        version: 2,
        name: "two".to_owned(),
        client_secret: None,
        role_claim: None,
        role_map: RoleMap::default(),
        ..made
    };
    assert_eq!(changed, expected);
    assert_eq!(store.providers(&Page::default()).await?.items, [expected]);
    assert_refused(store.update_provider(&other).await, Refusal::Stale);
    Ok(())
}

#[tokio::test]
async fn names_and_issuers_are_taken_once() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let first = provider(store, "one").await;
    let mut new = NewProvider {
        id: OidcProviderId::mint(NOON, &SystemEntropy),
        name: "ONE".to_owned(),
        issuer: "https://other.example".to_owned(),
        client_id: String::new(),
        client_secret: None,
        scopes: Vec::new(),
        role_claim: None,
        role_map: RoleMap::default(),
        enabled: true,
        created_at: NOON,
    };

    let taken = |field| Refusal::Taken { field };
    assert_refused(store.create_provider(&new).await, taken("name"));
    (new.name, new.issuer) = ("two".to_owned(), first.issuer);
    assert_refused(store.create_provider(&new).await, taken("issuer"));
    Ok(())
}

/// A10
#[tokio::test]
async fn an_identity_leads_to_the_user_it_came_with_and_joins_nobody() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let (one, two) = (provider(store, "one").await, provider(store, "two").await);
    let bob = new_user("bob@example.test");

    let made = store.admit(&bob, &identity(&one, "b0b")).await?;

    let found = store.user_of(&one.issuer, "b0b").await?;
    assert_eq!(found.as_ref(), Some(&made));
    assert_eq!(made.identities.len(), 1);
    assert_eq!(store.user_of(&two.issuer, "b0b").await?, None);
    assert_eq!(store.user_of(&one.issuer, "B0B").await?, None);
    let taken = |field| Refusal::Taken { field };
    let same_address = store
        .admit(&new_user("BOB@example.test"), &identity(&two, "eve"))
        .await;
    assert_refused(same_address, taken("email"));
    let same_identity = store
        .admit(&new_user("eve@example.test"), &identity(&one, "b0b"))
        .await;
    assert_refused(same_identity, taken("subject"));
    assert_eq!(store.user_of(&two.issuer, "eve").await?, None);
    assert!(
        UserDirectory::find_by_email(store, "eve@example.test")
            .await?
            .is_none()
    );
    Ok(())
}

/// A4, A10
#[tokio::test]
async fn whoever_loses_an_identity_loses_everything_that_was_issued() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let (one, two) = (provider(store, "one").await, provider(store, "two").await);
    let bob = store
        .admit(&new_user("bob@example.test"), &identity(&one, "b0b"))
        .await?;
    let eve = store
        .admit(&new_user("eve@example.test"), &identity(&two, "eve"))
        .await?;
    open(store, &bob).await?;
    open(store, &eve).await?;
    let (of_bob, of_eve) = (program(&bob), program(&eve));
    assert!(ApiTokenStore::create(store, &of_bob).await?);
    assert!(ApiTokenStore::create(store, &of_eve).await?);

    let off = ProviderEdit {
        enabled: false,
        ..edit(&one)
    };
    store.update_provider(&off).await?;

    let now = UserDirectory::find(store, bob.id).await?.expect("bob");
    assert!(now.epoch > bob.epoch);
    assert_eq!(SessionStore::list(store, bob.id, after(2)).await?, []);
    assert_eq!(ApiTokenStore::find(store, of_bob.id).await?, None);
    assert!(!ApiTokenStore::create(store, &of_bob).await?, "too late");
    open(store, &now).await?;
    let again = program(&now);
    assert!(ApiTokenStore::create(store, &again).await?);

    store.delete_provider(one.id, None, after(3)).await?;

    let gone = UserDirectory::find(store, bob.id).await?.expect("bob");
    assert!(gone.epoch > now.epoch);
    assert_eq!(gone.identities, []);
    assert_eq!(SessionStore::list(store, bob.id, after(4)).await?, []);
    assert_eq!(ApiTokenStore::find(store, again.id).await?, None);
    assert_eq!(store.user_of(&one.issuer, "b0b").await?, None);
    // Another provider's users stay as they are.
    let spared = UserDirectory::find(store, eve.id).await?.expect("eve");
    assert_eq!(spared.epoch, eve.epoch);
    assert_eq!(SessionStore::list(store, eve.id, after(4)).await?.len(), 1);
    assert_refused(
        store.delete_provider(one.id, None, NOON).await,
        Refusal::NotFound,
    );
    assert_refused(
        store.delete_provider(two.id, Some(9), NOON).await,
        Refusal::Stale,
    );
    let still = UserDirectory::find(store, eve.id).await?.expect("eve");
    assert_eq!(still.epoch, eve.epoch);
    assert!(ApiTokenStore::find(store, of_eve.id).await?.is_some());
    Ok(())
}

/// A4, A10
#[tokio::test]
async fn whoever_is_given_no_role_loses_everything_that_was_issued() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let one = provider(store, "one").await;
    let bob = store
        .admit(&new_user("bob@example.test"), &identity(&one, "b0b"))
        .await?;
    let eve = store
        .admit(&new_user("eve@example.test"), &identity(&one, "eve"))
        .await?;
    let (of_bob, of_eve) = (program(&bob), program(&eve));
    for (user, program) in [(&bob, &of_bob), (&eve, &of_eve)] {
        open(store, user).await?;
        assert!(ApiTokenStore::create(store, program).await?);
    }

    let epoch = store.shut_out(bob.id, after(1)).await?;

    let now = UserDirectory::find(store, bob.id).await?.expect("bob");
    assert_eq!(epoch, Some(now.epoch));
    assert!(now.epoch > bob.epoch);
    assert_eq!(now.identities, bob.identities);
    assert_eq!(SessionStore::list(store, bob.id, after(2)).await?, []);
    assert_eq!(ApiTokenStore::find(store, of_bob.id).await?, None);
    assert_eq!(SessionStore::list(store, eve.id, after(2)).await?.len(), 1);
    assert!(ApiTokenStore::find(store, of_eve.id).await?.is_some());
    let stranger = UserId::mint(NOON, &SystemEntropy);
    assert_eq!(store.shut_out(stranger, after(1)).await?, None);
    Ok(())
}
