//! An application of Eureka: the registry is read whole, then what has changed in it of late
//! (<https://github.com/Netflix/eureka/wiki/Eureka-REST-operations>).
//!
//! A change may have been missed. Eureka counts its instances by status, and so do we: where the counts differ, the
//! registry is read whole again, and so it is from time to time, for equal counts prove little.

mod message;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::AUTHORIZATION;
use tokio::time::{Instant, sleep_until};

use super::SourceError;
use super::error::Followed;
use super::heard::Heard;
use super::http::{Client, HttpError, Question};
use super::secret::{self, Secret};
use super::voice::Voice;
use crate::config::EurekaSource;
use message::{Action, Application, Info, Root};

/// The registry is read whole at least so often.
const WHOLE: Duration = Duration::from_secs(300);

/// Says who is there, in intervals.
pub(super) async fn follow(source: &EurekaSource, voice: &mut Voice) -> Followed {
    let eureka = Eureka { source, client: Client::new(&source.access) };
    loop {
        let (mut registry, begin) = (eureka.whole().await?, Instant::now());
        let mut next = begin;
        while next < begin + WHOLE {
            let (snapshot, left_out) = registry.of(&source.application).said();
            voice.say_but(snapshot, left_out).await;
            next = Instant::now() + source.interval;
            sleep_until(next).await;
            if !eureka.catch_up(&mut registry).await? {
                break;
            }
        }
    }
}

/// A conversation with Eureka.
struct Eureka<'a> {
    source: &'a EurekaSource,
    client: Client<'a>,
}

impl Eureka<'_> {
    async fn whole(&self) -> Result<Registry, SourceError> {
        let Root { applications } = self.ask("/apps").await?;
        let mut registry = Registry::default();
        applications.application.0.into_iter().for_each(|application| registry.put_all(application));
        Ok(registry)
    }

    /// Applies what has changed of late; whether the registry is then what Eureka has.
    async fn catch_up(&self, registry: &mut Registry) -> Result<bool, SourceError> {
        let Root { applications } = match self.ask("/apps/delta").await {
            // Servers may be configured to tell of no changes.
            Err(SourceError::Http(HttpError::Refused { .. })) => return Ok(false),
            asked => asked?,
        };
        applications.application.0.into_iter().for_each(|application| registry.apply_all(application));
        Ok(registry.counts() == applications.counts)
    }

    async fn ask(&self, path: &str) -> Result<Root, SourceError> {
        let mut question = Question::get(path);
        if let Some(login) = &self.source.login {
            let password = Secret::read(&login.password_file).await?;
            let pair = STANDARD.encode(format!("{}:{}", login.user, password.reveal()));
            question = question.header(AUTHORIZATION, secret::header(&format!("Basic {pair}")));
        }
        Ok(self.client.ask(&question).await?.json().await?)
    }
}

/// All instances, by application and id.
#[derive(Debug, Default)]
struct Registry(BTreeMap<(String, String), Info>);

impl Registry {
    fn put_all(&mut self, Application { name, instance }: Application) {
        for info in instance.0 {
            self.0.insert((name.clone(), info.id().to_owned()), info);
        }
    }

    fn apply_all(&mut self, Application { name, instance }: Application) {
        for info in instance.0 {
            let key = (name.clone(), info.id().to_owned());
            match info.action {
                Action::Deleted => drop(self.0.remove(&key)),
                Action::Added | Action::Modified => drop(self.0.insert(key, info)),
            }
        }
    }

    /// The instances of an application.
    fn of(&self, application: &str) -> Heard {
        let mut heard = Heard::default();
        for ((name, id), info) in &self.0 {
            if name.to_uppercase() == application {
                info.instances().into_iter().for_each(|instance| heard.add(id, instance));
            }
        }
        heard
    }

    /// How many there are of each status, as Eureka writes it (`apps__hashcode`): `DOWN_1_UP_2_`.
    fn counts(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.0.values().for_each(|info| *counts.entry(&info.status).or_default() += 1);
        counts.into_iter().map(|(status, count)| format!("{status}_{count}_")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Standing;

    /// A registry, or what has changed in it.
    fn applications(text: &str) -> Vec<Application> {
        serde_json::from_str::<Root>(text).unwrap().applications.application.0
    }

    fn info(id: &str, address: &str, status: &str, action: &str) -> String {
        format!(
            "{{\"instanceId\":\"{id}\",\"app\":\"WEB\",\"ipAddr\":\"{address}\",\"status\":\"{status}\",\
             \"port\":{{\"$\":8080,\"@enabled\":\"true\"}},\"actionType\":\"{action}\"}}"
        )
    }

    fn root(web: &[String]) -> String {
        let other = info("o", "10.0.0.9", "UP", "ADDED");
        format!(
            "{{\"applications\":{{\"versions__delta\":\"1\",\"application\":[{{\"name\":\"Web\",\"instance\":[{}]}},\
             {{\"name\":\"OTHER\",\"instance\":{other}}}]}}}}",
            web.join(",")
        )
    }

    #[test]
    fn changes_make_of_one_registry_the_next() {
        let mut registry = Registry::default();
        let before = [info("a", "10.0.0.1", "UP", "ADDED"), info("b", "10.0.0.2", "DOWN", "ADDED")];
        applications(&root(&before)).into_iter().for_each(|it| registry.put_all(it));
        assert_eq!(registry.counts(), "DOWN_1_UP_2_");
        let changes = [
            info("a", "10.0.0.1", "OUT_OF_SERVICE", "MODIFIED"),
            info("b", "10.0.0.2", "DOWN", "DELETED"),
            info("c", "10.0.0.3", "UP", "ADDED"),
        ];
        // What was told before is told again.
        for _ in 0..2 {
            applications(&root(&changes)).into_iter().for_each(|it| registry.apply_all(it));
            assert_eq!(registry.counts(), "OUT_OF_SERVICE_1_UP_2_");
        }
        let (snapshot, left_out) = registry.of("WEB").said();
        let found: Vec<_> = snapshot.instances().iter().map(|it| (it.address, it.standing)).collect();
        let expected = [([10, 0, 0, 1].into(), Standing::Draining), ([10, 0, 0, 3].into(), Standing::Ready)];
        assert_eq!((found.as_slice(), left_out), (expected.as_slice(), None));
    }
}
