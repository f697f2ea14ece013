//! What was told to whom, and what waits.

use arkeep_core::{ChannelId, DeliveryId, Timestamp};
use axum::extract::State;
use serde::Serialize;

use super::super::params::Params;
use super::super::problem::Problem;
use super::super::services::Api;
use super::{PageBody, page};
use crate::store::deliveries::{Delivery, DeliveryFilter};

#[derive(Serialize)]
pub(super) struct DeliveryBody {
    id: DeliveryId,
    channel_id: ChannelId,
    #[serde(rename = "type")]
    kind: String,
    state: &'static str,
    attempts: u32,
    error: Option<String>,
    occurred_at: Timestamp,
    last_attempt_at: Option<Timestamp>,
    next_attempt_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

impl From<Delivery> for DeliveryBody {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            channel_id: delivery.channel,
            kind: delivery.event.kind,
            state: delivery.state.as_str(),
            attempts: delivery.attempts,
            error: delivery.error,
            occurred_at: delivery.event.occurred_at,
            last_attempt_at: delivery.tried_at,
            next_attempt_at: delivery.retry_at,
            ended_at: delivery.ended_at,
        }
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<axum::Json<PageBody<DeliveryBody>>, Problem> {
    let filter = DeliveryFilter {
        channel: params.take("channel_id")?,
        state: params.take("state")?,
    };
    let wanted = params.page()?;
    params.finish()?;
    let listed = api.stores.deliveries.deliveries(&filter, &wanted).await?;
    Ok(page(listed, DeliveryBody::from))
}
