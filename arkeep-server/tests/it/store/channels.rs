use arkeep_core::{ChannelId, SystemEntropy};
use arkeep_server::store::channels::{
    Channel, ChannelConfig, ChannelEdit, ChannelStore, HealthchecksConfig, NewChannel, NtfyConfig,
    WebhookConfig,
};
use arkeep_server::store::{Page, Refusal, SecretChange};

use super::users::assert_refused;
use super::{NOON, Sandbox, Store, Tested, after};

pub(super) async fn channel(store: &Store, name: &str, events: &[&str]) -> Channel {
    let config = ChannelConfig::Webhook(WebhookConfig {
        url: format!("https://{name}.example"),
    });
    let new = NewChannel {
        id: ChannelId::mint(NOON, &SystemEntropy),
        name: name.to_owned(),
        config,
        secret: Some(b"sealed".to_vec()),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        enabled: true,
        created_at: NOON,
    };
    store.create_channel(&new).await.expect("a new channel")
}

pub(super) fn edit(channel: &Channel) -> ChannelEdit {
    let channel = channel.clone();
    ChannelEdit {
        id: channel.id,
        version: channel.version,
        name: channel.name,
        config: channel.config,
        secret: SecretChange::Keep,
        events: channel.events,
        enabled: channel.enabled,
        at: after(1),
    }
}

#[tokio::test]
async fn are_found_as_they_were_made_and_changed() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let made = channel(store, "one", &["job.failed"]).await;
    assert_eq!(store.channel(made.id).await?.as_ref(), Some(&made));

    for (config, secret) in [
        (
            ChannelConfig::Ntfy(NtfyConfig {
                url: "https://ntfy.example".to_owned(),
                topic: "t".to_owned(),
            }),
            SecretChange::Set(b"other".to_vec()),
        ),
        (
            ChannelConfig::Healthchecks(HealthchecksConfig {
                url: "https://hc.example".to_owned(),
            }),
            SecretChange::Clear,
        ),
    ] {
        let new = NewChannel {
            id: ChannelId::mint(NOON, &SystemEntropy),
            name: format!("a {}", config.kind()),
            config: config.clone(),
            secret: None,
            events: vec!["security.*".to_owned()],
            enabled: false,
            created_at: NOON,
        };
        let made = store.create_channel(&new).await?;
        let wanted = ChannelEdit {
            secret: secret.clone(),
            enabled: true,
            ..edit(&made)
        };
        let changed = store.update_channel(&wanted).await?;

        assert_eq!((changed.version, changed.enabled), (2, true));
        assert_eq!(changed.config, config);
        let expected = match secret {
            SecretChange::Set(blob) => Some(blob),
            _ => None,
        };
        assert_eq!(changed.secret, expected);
        assert_eq!(store.channel(made.id).await?, Some(changed));
    }
    Ok(())
}

#[tokio::test]
async fn have_names_of_their_own_and_no_stale_writers() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let one = channel(store, "one", &["job.failed"]).await;
    let two = channel(store, "two", &["job.failed"]).await;
    let taken = Refusal::Taken { field: "name" };

    let renamed = ChannelEdit {
        name: "ONE".to_owned(),
        ..edit(&two)
    };
    assert_refused(store.update_channel(&renamed).await, taken);
    let stale = ChannelEdit {
        version: 7,
        ..edit(&one)
    };
    assert_refused(store.update_channel(&stale).await, Refusal::Stale);
    assert_refused(store.delete_channel(one.id, Some(7)).await, Refusal::Stale);
    store.delete_channel(one.id, Some(1)).await?;
    assert_refused(store.delete_channel(one.id, None).await, Refusal::NotFound);
    assert_refused(store.update_channel(&edit(&one)).await, Refusal::NotFound);

    let listed = store.channels(&Page::default()).await?;
    assert_eq!(listed.items, [two]);
    Ok(())
}
