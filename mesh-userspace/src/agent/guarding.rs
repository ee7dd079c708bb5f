//! Whom services serve, as the operator orders.

use super::{command::CommandError, state::Agent};
use crate::{
    api::types::{ClientOrderView, GuardView},
    config::{Admittance, Service},
    events::{Happening, Kind},
    overrides::ClientOrder,
};
use ipnet::IpNet;
use std::time::SystemTime;
use tracing::info;

impl Agent {
    pub(super) fn guard_views(&self) -> Vec<GuardView> {
        let views = self.config.services.iter().map(|service| self.guard_view(service));
        views
            .filter(|view| view.configured > 0 || !view.ordered.is_empty() || view.others != "allow")
            .collect()
    }

    fn guard_view(&self, service: &Service) -> GuardView {
        let now = SystemTime::now();
        let order = |(prefix, order): (&IpNet, &ClientOrder)| ClientOrderView {
            prefix: prefix.to_string(),
            admittance: order.admittance.to_string(),
            remaining_seconds: order
                .until
                .map(|until| until.duration_since(now).unwrap_or_default().as_secs_f64()),
        };
        let rules = service.guard.as_deref();
        GuardView {
            service: service.name.clone(),
            others: rules.map_or(Admittance::default(), |rules| rules.others).to_string(),
            configured: rules.map_or(0, |rules| rules.prefixes.len() as u64),
            ordered: self.overrides.ordered_clients(service.key()).iter().map(order).collect(),
            forgotten: self.forgetful.clone(),
        }
    }

    /// Orders what becomes of clients, or takes that back.
    pub(super) fn guard(
        &mut self,
        service: &str,
        clients: IpNet,
        order: Option<ClientOrder>,
    ) -> Result<GuardView, CommandError> {
        let found = self.find_service(service)?.clone();
        let (changed, message) = match order {
            Some(order) => {
                let verdict = match order.admittance {
                    Admittance::Allow => "are let in",
                    Admittance::Deny => "are kept out",
                };
                let changed = self.overrides.order_clients(found.key(), clients, order);
                (changed, format!("clients in {clients} {verdict} by the operator"))
            }
            None if self.overrides.forget_clients(found.key(), clients) => {
                (true, format!("clients in {clients} are treated as configured again"))
            }
            None => {
                let message = format!("nothing is ordered about clients in {clients} of service {service:?}");
                return Err(CommandError::not_found(message).advise("see: meshlb guard list"));
            }
        };
        if changed {
            info!(service, %clients, ?order, "the operator has ordered");
            self.tell(vec![Happening::new(Kind::Order, message).of(service)]);
            self.remember();
            self.steer();
        }
        Ok(self.guard_view(&found))
    }

    /// Takes back what is ordered for a time that is over, and says whether there was anything.
    pub(super) fn end_client_orders_in_time(&mut self) -> bool {
        let ended = self.overrides.expire_clients(SystemTime::now());
        if ended.is_empty() {
            return false;
        }
        let name =
            |key| self.config.services.iter().find(|service| service.key() == key).map(|it| it.name.clone());
        let over = |(key, clients): &(_, IpNet)| {
            info!(%clients, "the time of an order about clients is over");
            let message = format!("clients in {clients} are treated as configured again: the time is over");
            Happening::new(Kind::Order, message).of(&name(*key).unwrap_or_default())
        };
        let happenings = ended.iter().map(over).collect();
        self.tell(happenings);
        self.remember();
        true
    }
}
