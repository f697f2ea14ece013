//! Numbers for Prometheus.
//!
//! No label carries what a stranger can choose: the route is the pattern, a method is one of the
//! known ones, and every other label is a word of this program or the id of a record that somebody
//! with a login made.

mod process;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arkeep_core::JobId;
use arkeep_core::job::{JobKind, JobState};
use axum::http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::store::jobs::Job;

/// What is counted, and how it is written out.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_durations: Histograms<RouteLabels>,
    auth_attempts: Family<ResultLabels, Counter>,
    vault_operations: Family<OperationLabels, Counter>,
    grpc_messages: Family<TypeLabels, Counter>,
    jobs: Family<JobLabels, Counter>,
    job_durations: Histograms<KindLabels>,
    last_success: Family<PolicyLabels, Gauge>,
    deliveries: Family<DeliveryLabels, Counter>,
    agents: Family<StateLabels, Gauge>,
    queue_depth: Gauge,
    /// Ended jobs that were counted. Whoever tells of one may tell again soon after.
    recent: Mutex<VecDeque<JobId>>,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

impl Metrics {
    /// Begins to count, from nothing.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            request_durations: Family::new_with_constructor(quick),
            auth_attempts: Family::default(),
            vault_operations: Family::default(),
            grpc_messages: Family::default(),
            jobs: Family::default(),
            job_durations: Family::new_with_constructor(slow),
            last_success: Family::default(),
            deliveries: Family::default(),
            agents: Family::default(),
            queue_depth: Gauge::default(),
            recent: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let all = &mut self.registry;
        // The writer adds `_total` to the names of counters.
        all.register(
            "arkeep_http_requests",
            "HTTP requests answered",
            self.requests.clone(),
        );
        all.register(
            "arkeep_http_request_duration_seconds",
            "Time until an answer began",
            self.request_durations.clone(),
        );
        all.register(
            "arkeep_auth_attempts",
            "Attempts to log in",
            self.auth_attempts.clone(),
        );
        all.register(
            "arkeep_vault_operations",
            "Secrets sealed and opened",
            self.vault_operations.clone(),
        );
        all.register(
            "arkeep_grpc_messages",
            "Messages of agents",
            self.grpc_messages.clone(),
        );
        all.register("arkeep_jobs", "Jobs that ended", self.jobs.clone());
        all.register(
            "arkeep_job_duration_seconds",
            "Time from a job's beginning to its end",
            self.job_durations.clone(),
        );
        all.register(
            "arkeep_policy_last_success_timestamp_seconds",
            "When the policy's last successful backup ended",
            self.last_success.clone(),
        );
        all.register(
            "arkeep_deliveries",
            "Attempts to deliver, and what was given up",
            self.deliveries.clone(),
        );
        all.register("arkeep_agents", "Agents by state", self.agents.clone());
        all.register(
            "arkeep_job_queue_depth",
            "Jobs that wait",
            self.queue_depth.clone(),
        );
        all.register_collector(Box::new(process::Process));
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    ///
    /// When a number cannot be written, which is a fault of this program.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    pub(super) fn http(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let method = known(method);
        let route = route.to_owned();
        let labels = RouteLabels {
            method,
            route: route.clone(),
        };
        self.request_durations
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        let labels = RequestLabels {
            method,
            route,
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
    }

    pub(super) fn auth_attempt(&self, result: &'static str) {
        self.auth_attempts
            .get_or_create(&ResultLabels { result })
            .inc();
    }

    /// Counts a secret that was sealed or opened, or was not.
    pub fn vault_operation(&self, operation: &'static str, result: &'static str) {
        self.vault_operations
            .get_or_create(&OperationLabels { operation, result })
            .inc();
    }

    /// Counts a message of an agent, by the name of its type.
    pub fn grpc_message(&self, r#type: &'static str) {
        self.grpc_messages
            .get_or_create(&TypeLabels { r#type })
            .inc();
    }

    /// Counts attempts to deliver that went like this, or deliveries that were given up.
    pub fn delivery(&self, channel_kind: &'static str, result: &'static str, count: u64) {
        let labels = DeliveryLabels {
            channel_kind,
            result,
        };
        self.deliveries.get_or_create(&labels).inc_by(count);
    }

    /// Counts a job that has ended, once however often it is shown.
    pub fn job_ended(&self, job: &Job) {
        if !job.state.is_terminal() || !self.is_news(job.id) {
            return;
        }
        let kind = job.kind.as_str();
        let state = job.state.as_str();
        self.jobs.get_or_create(&JobLabels { kind, state }).inc();
        if let (Some(began), Some(ended)) = (job.started_at, job.ended_at) {
            let took = ended.since(began).as_secs_f64();
            self.job_durations
                .get_or_create(&KindLabels { kind })
                .observe(took);
        }
        self.policy_succeeded(job);
    }

    /// Notes when a policy last succeeded, if this job is how it did. Never moves back.
    pub fn policy_succeeded(&self, job: &Job) {
        let good = job.kind == JobKind::Backup && job.state == JobState::Succeeded;
        if let (true, Some(policy), Some(ended)) = (good, job.policy, job.ended_at) {
            let labels = PolicyLabels {
                policy: policy.to_string(),
            };
            let gauge = self.last_success.get_or_create_owned(&labels);
            gauge.set(gauge.get().max(ended.as_unix_seconds()));
        }
    }

    fn is_news(&self, job: JobId) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.contains(&job) {
            return false;
        }
        if recent.len() >= RECENT {
            recent.pop_front();
        }
        recent.push_back(job);
        true
    }

    pub(super) fn agents(&self, state: &'static str, count: i64) {
        self.agents.get_or_create(&StateLabels { state }).set(count);
    }

    pub(super) fn queue_depth(&self, count: i64) {
        self.queue_depth.set(count);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

const RECENT: usize = 1_024;

// 1 ms to 16 s.
fn quick() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

// 1 s to 18 h.
fn slow() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 4.0, 9))
}

macro_rules! labels {
    ($($name:ident { $($field:ident: $type:ty),+ })+) => {$(
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($field: $type),+ }
    )+};
}

labels! {
    RequestLabels { method: &'static str, route: String, status: u16 }
    RouteLabels { method: &'static str, route: String }
    ResultLabels { result: &'static str }
    OperationLabels { operation: &'static str, result: &'static str }
    TypeLabels { r#type: &'static str }
    JobLabels { kind: &'static str, state: &'static str }
    KindLabels { kind: &'static str }
    DeliveryLabels { channel_kind: &'static str, result: &'static str }
    PolicyLabels { policy: String }
    StateLabels { state: &'static str }
}

#[cfg(test)]
mod tests {
    use arkeep_core::Timestamp;

    use super::*;

    fn ended() -> Job {
        Job {
            id: JobId::from_uuid(uuid::Uuid::nil()),
            kind: JobKind::Backup,
            state: JobState::Succeeded,
            agent: arkeep_core::AgentId::from_uuid(uuid::Uuid::nil()),
            policy: Some(arkeep_core::PolicyId::from_uuid(uuid::Uuid::nil())),
            scheduled_for: Timestamp::UNIX_EPOCH,
            deadline: None,
            attempt: 1,
            fence: arkeep_core::job::Fence(1),
            folded: 0,
            source: arkeep_core::job::JobSource::Manual,
            parameters: String::new(),
            created_at: Timestamp::UNIX_EPOCH,
            started_at: Some(Timestamp::from_unix_seconds(1)),
            ended_at: Some(Timestamp::from_unix_seconds(10)),
            cancel_requested_at: None,
            error: None,
            results: Vec::new(),
            hooks: Vec::new(),
            late_result: None,
            assigned: Vec::new(),
            sent: None,
        }
    }

    // Whoever tells twice of a job's end is heard once.
    #[test]
    fn names_are_those_of_the_contract() -> Result<(), fmt::Error> {
        let metrics = Metrics::new();
        metrics.http(
            &Method::GET,
            "/api/v1/jobs/{id}",
            StatusCode::OK,
            Duration::from_millis(3),
        );
        metrics.auth_attempt("ok");
        metrics.vault_operation("seal", "ok");
        metrics.grpc_message("report");
        let job = ended();
        metrics.job_ended(&job);
        metrics.job_ended(&job);
        metrics.delivery("webhook", "delivered", 1);
        metrics.agents("online", 2);
        metrics.queue_depth(1);

        let text = metrics.text()?;

        for line in [
            r#"arkeep_http_requests_total{method="GET",route="/api/v1/jobs/{id}",status="200"} 1"#,
            r#"arkeep_http_request_duration_seconds_count{method="GET",route="/api/v1/jobs/{id}"} 1"#,
            r#"arkeep_auth_attempts_total{result="ok"} 1"#,
            r#"arkeep_vault_operations_total{operation="seal",result="ok"} 1"#,
            r#"arkeep_grpc_messages_total{type="report"} 1"#,
            r#"arkeep_jobs_total{kind="backup",state="succeeded"} 1"#,
            r#"arkeep_job_duration_seconds_count{kind="backup"} 1"#,
            r#"arkeep_job_duration_seconds_sum{kind="backup"} 9.0"#,
            r#"arkeep_policy_last_success_timestamp_seconds{policy="00000000-0000-0000-0000-000000000000"} 10"#,
            r#"arkeep_deliveries_total{channel_kind="webhook",result="delivered"} 1"#,
            r#"arkeep_agents{state="online"} 2"#,
            "arkeep_job_queue_depth 1",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line} is not in\n{text}"
            );
        }
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
        }
        Ok(())
    }

    #[test]
    fn a_method_that_somebody_made_up_is_other() -> Result<(), Box<dyn std::error::Error>> {
        let metrics = Metrics::new();

        metrics.http(
            &"BREW".parse()?,
            "unknown",
            StatusCode::NOT_FOUND,
            Duration::ZERO,
        );

        assert!(!metrics.text()?.contains("BREW"));
        Ok(())
    }
}
