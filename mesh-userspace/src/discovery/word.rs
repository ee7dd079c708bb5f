//! What sources say, whatever it is about, and who says it.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Followed;
use super::voice::Voice;
use super::{Snapshot, consul, dns, etcd, eureka, file, kubernetes};
use crate::config::{Definitions, DiscoverySource, ServicesFrom};

/// What a source says at one time.
pub trait Word: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// How many entries it has.
    fn count(&self) -> usize;
}

/// Who says something. `Display` is its name.
pub trait Follow: Clone + PartialEq + Display + Send + Sync + 'static {
    /// What it says.
    type Word: Word;

    /// The directory within the state directory where its words are kept.
    const DIRECTORY: &str;

    /// Says it, again and again, until there is a failure.
    fn follow(&self, voice: &mut Voice<Self::Word>) -> impl Future<Output = Followed> + Send;
}

impl Word for Snapshot {
    fn count(&self) -> usize {
        self.instances().len()
    }
}

impl Follow for DiscoverySource {
    type Word = Snapshot;

    const DIRECTORY: &str = "discovery";

    async fn follow(&self, voice: &mut Voice) -> Followed {
        match self {
            Self::File(source) => file::follow(source, voice).await,
            Self::Dns(source) => dns::follow(source, voice).await,
            Self::Kubernetes(source) => kubernetes::follow(source, voice).await,
            Self::Consul(source) => Box::pin(consul::follow(source, voice)).await,
            Self::Etcd(source) => Box::pin(etcd::follow(source, voice, etcd::instances)).await,
            Self::Eureka(source) => Box::pin(eureka::follow(source, voice)).await,
        }
    }
}

impl Word for Definitions {
    fn count(&self) -> usize {
        self.len()
    }
}

impl Follow for ServicesFrom {
    type Word = Definitions;

    const DIRECTORY: &str = "services";

    async fn follow(&self, voice: &mut Voice<Definitions>) -> Followed {
        let definitions = |known: &etcd::Known| (etcd::definitions(known, &self.etcd.prefix), None);
        Box::pin(etcd::follow(&self.etcd, voice, definitions)).await
    }
}
