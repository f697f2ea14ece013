use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::api_token::{ApiToken, ApiTokens, CreateError, Owner, Scope, Wanted};
use arkeep_auth::session::{LogOut, LoginError};
use arkeep_auth::{AuthError, Epoch, Role, UserStore as _};
use arkeep_core::{SecretString, StoreError, SystemEntropy, Timestamp, UserId};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::fixture::{House, PASSWORD, TestResult, noon};

const DAY: Duration = Duration::from_secs(86_400);

struct Shop {
    house: House,
    ada: UserId,
    tokens: ApiTokens,
}

impl Shop {
    async fn build(role: Role) -> Result<Self, Box<dyn std::error::Error>> {
        let mut house = House::build().await?;
        let ada = house.add("ada@example.com", role).await?;
        let tokens = ApiTokens::new(Arc::clone(&house.store) as _, Arc::new(SystemEntropy));
        house.gate = house.gate.with_api_tokens(tokens.clone());
        Ok(Self { house, ada, tokens })
    }

    async fn make(&self, scopes: &[Scope]) -> Result<ApiToken, CreateError> {
        let wanted = wanted(scopes);
        let owner = self.owner().await?;
        Ok(self.tokens.create(owner, wanted, noon()).await?.0)
    }

    /// Ada as she is now, or as somebody who is not there.
    async fn owner(&self) -> Result<Owner, StoreError> {
        let ada = self.house.store.find(self.ada).await?;
        Ok(Owner {
            user: self.ada,
            epoch: ada.map_or(Epoch::FIRST, |ada| ada.epoch),
        })
    }

    async fn who(
        &self,
        token: &ApiToken,
        now: Timestamp,
    ) -> Result<arkeep_auth::Principal, AuthError> {
        self.house.gate.authenticate(&token.expose(), now).await
    }
}

fn wanted(scopes: &[Scope]) -> Wanted {
    Wanted {
        name: "nightly".to_owned(),
        scopes: scopes.iter().copied().collect(),
        expires_at: noon().plus(DAY),
    }
}

/// A13
#[tokio::test]
async fn a_program_is_its_owner_cut_down() -> TestResult {
    let shop = Shop::build(Role::Operator).await?;
    let admin = shop.make(&[Scope::Admin]).await?;
    let read = shop.make(&[Scope::Read]).await?;

    let all = shop.who(&admin, noon()).await?;
    let reader = shop.who(&read, noon()).await?;

    assert_eq!((all.user(), all.role()), (shop.ada, Role::Operator));
    assert_eq!(reader.role(), Role::Viewer);
    assert!(all.permits(Scope::Restore) && !reader.permits(Scope::Restore));
    assert_eq!(reader.api_token(), Some(read.id()));
    shop.house.store.set_role(shop.ada, Role::Viewer);
    assert_eq!(shop.who(&admin, noon()).await?.role(), Role::Viewer);
    Ok(())
}

/// A13
#[tokio::test]
async fn a_program_is_no_person() -> TestResult {
    let shop = Shop::build(Role::Admin).await?;
    let token = shop.make(&[Scope::Admin]).await?;
    let caller = shop.who(&token, noon()).await?;
    let sessions = &shop.house.sessions;
    let password = SecretString::from(PASSWORD);

    assert!(!caller.is_fresh(DAY, noon()));
    assert_eq!((caller.session(), caller.token()), (None, None));
    let stepped = sessions.step_up(&caller, &password, noon()).await;
    assert!(matches!(stepped, Err(LoginError::Refused)));
    let changed = sessions
        .change_password(&caller, &password, &password, noon())
        .await;
    assert!(changed.is_err());
    let shown = LogOut {
        refresh: None,
        principal: Some(&caller),
    };
    assert!(sessions.log_out(&shown, noon()).await?.is_empty());
    assert!(shop.who(&token, noon()).await.is_ok());
    Ok(())
}

/// A13
#[tokio::test]
async fn a_token_dies_when_it_is_revoked_expires_or_loses_its_owner() -> TestResult {
    let shop = Shop::build(Role::Admin).await?;
    let revoked = shop.make(&[Scope::Read]).await?;
    let kept = shop.make(&[Scope::Read]).await?;

    assert!(shop.tokens.revoke(shop.ada, revoked.id()).await?);
    assert!(matches!(
        shop.who(&revoked, noon()).await,
        Err(AuthError::Revoked)
    ));
    let last = noon().plus(DAY).minus(Duration::from_millis(1));
    assert!(shop.who(&kept, last).await.is_ok());
    assert!(matches!(
        shop.who(&kept, noon().plus(DAY)).await,
        Err(AuthError::Refused(_))
    ));
    shop.house.store.set_enabled(shop.ada, false, noon());
    assert!(matches!(
        shop.who(&kept, noon()).await,
        Err(AuthError::Revoked)
    ));
    shop.house.store.set_enabled(shop.ada, true, noon());
    assert!(shop.who(&kept, noon()).await.is_ok());
    shop.house.store.remove_user(shop.ada, noon());
    assert!(matches!(
        shop.who(&kept, noon()).await,
        Err(AuthError::Revoked)
    ));
    Ok(())
}

/// A13
#[tokio::test]
async fn the_id_alone_opens_nothing() -> TestResult {
    let shop = Shop::build(Role::Admin).await?;
    let token = shop.make(&[Scope::Read]).await?;
    let mut bytes = URL_SAFE_NO_PAD.decode(&token.expose()[ApiToken::PREFIX.len()..])?;
    // A token of somebody who knows the id and the format: another secret, and its checksum.
    bytes[47] ^= 1;
    let sum = digest(
        &SHA256,
        &[b"arkeep-auth api token checksum 1", &bytes[..48]].concat(),
    );
    bytes.truncate(48);
    bytes.extend_from_slice(&sum.as_ref()[..4]);
    let forged = format!("{}{}", ApiToken::PREFIX, URL_SAFE_NO_PAD.encode(&bytes));
    assert_eq!(forged.parse::<ApiToken>()?.id(), token.id());

    let refused = shop.house.gate.authenticate(&forged, noon()).await;

    assert!(matches!(refused, Err(AuthError::Revoked)));
    Ok(())
}

/// A13
#[tokio::test]
async fn use_is_shown_to_the_minute() -> TestResult {
    let shop = Shop::build(Role::Admin).await?;
    let token = shop.make(&[Scope::Read]).await?;
    let mut seen = Vec::new();

    for seconds in [0, 59, 60, 90] {
        let now = noon().plus(Duration::from_secs(seconds));
        shop.who(&token, now).await?;
        let list = shop.tokens.list(shop.ada).await?;
        seen.extend(
            list.first()
                .and_then(|info| info.last_used_at)
                .map(|at| at.since(noon()).as_secs()),
        );
    }

    assert_eq!(seen, [0, 0, 60, 60]);
    Ok(())
}

/// A13
#[tokio::test]
async fn a_token_without_name_scope_or_future_is_not_made() -> TestResult {
    let shop = Shop::build(Role::Admin).await?;
    for name in [String::new(), "x".repeat(101), "a\nb".to_owned()] {
        let bad = Wanted {
            name,
            ..wanted(&[Scope::Read])
        };
        let refused = shop.tokens.create(shop.owner().await?, bad, noon()).await;
        assert!(matches!(refused, Err(CreateError::Name)));
    }
    let refused = shop.make(&[]).await;
    assert!(matches!(refused, Err(CreateError::Scopes)));
    let late = Wanted {
        expires_at: noon(),
        ..wanted(&[Scope::Read])
    };
    let refused = shop.tokens.create(shop.owner().await?, late, noon()).await;
    assert!(matches!(refused, Err(CreateError::Expiry)));
    let stranger = UserId::mint(noon(), &SystemEntropy);
    let stranger = Owner {
        user: stranger,
        epoch: Epoch::FIRST,
    };
    let refused = shop
        .tokens
        .create(stranger, wanted(&[Scope::Read]), noon())
        .await;
    assert!(matches!(refused, Err(CreateError::Owner)));
    assert!(shop.tokens.list(shop.ada).await?.is_empty());
    Ok(())
}

/// A5
#[tokio::test]
async fn a_program_is_not_let_in_while_the_truth_cannot_be_had() -> TestResult {
    let shop = Shop::build(Role::Admin).await?;
    let token = shop.make(&[Scope::Read]).await?;
    shop.house.store.set_broken(true);

    let refused = shop.who(&token, noon()).await;

    assert!(matches!(refused, Err(AuthError::Unavailable(_))));
    Ok(())
}

/// A13: an expired token is listed for a month, so that its owner sees what stopped working.
#[tokio::test]
async fn an_expired_token_is_shown_for_thirty_days() -> TestResult {
    let shop = Shop::build(Role::Admin).await?;
    for _ in 0..2 {
        shop.make(&[Scope::Read]).await?;
    }
    let gone = noon().plus(31 * DAY);

    assert_eq!(shop.tokens.prune(gone).await?, 0);
    assert_eq!(shop.tokens.list(shop.ada).await?.len(), 2);
    assert_eq!(
        shop.tokens.prune(gone.plus(Duration::from_secs(1))).await?,
        2
    );
    assert!(shop.tokens.list(shop.ada).await?.is_empty());
    Ok(())
}
