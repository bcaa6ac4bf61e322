//! Events: what happens is told on the exchange, to whom it concerns, in its order.

use shop::events::{NEWSLETTER, POST_ROOM};

use crate::app::TestApp;
use crate::broker::Broker;

/// The topics that wait in a queue, which is empty then.
async fn heard(broker: &Broker, queue: &str) -> Vec<String> {
    let mut topics = Vec::new();
    while let Some(event) = broker.events.next(queue).await.unwrap() {
        topics.push(event.topic);
    }
    topics
}

#[dagz::test]
async fn the_post_room_hears_of_payments_only(app: TestApp, broker: Broker) {
    app.paid_order(1).await;
    broker.events.tell(&app.pool, 0).await.unwrap();
    assert_eq!(heard(&broker, POST_ROOM).await, ["order.paid"]);
}

#[dagz::test]
async fn the_newsletter_hears_of_orders_in_their_order(app: TestApp, broker: Broker) {
    app.paid_order(1).await;
    broker.events.tell(&app.pool, 0).await.unwrap();
    let topics = heard(&broker, NEWSLETTER).await;
    assert_eq!(topics.last().map(String::as_str), Some("order.paid"));
    assert!(
        topics.iter().all(|topic| topic.starts_with("order.")),
        "{topics:?}"
    );
}

#[dagz::test]
async fn what_was_told_is_not_told_again(app: TestApp, broker: Broker) {
    app.paid_order(1).await;
    let last = broker.events.tell(&app.pool, 0).await.unwrap();
    assert_eq!(broker.events.tell(&app.pool, last).await.unwrap(), last);
    assert_eq!(heard(&broker, POST_ROOM).await.len(), 1);
}

#[dagz::test]
async fn an_event_has_its_number(app: TestApp, broker: Broker) {
    app.paid_order(1).await;
    let last = broker.events.tell(&app.pool, 0).await.unwrap();
    let event = broker.events.next(POST_ROOM).await.unwrap().unwrap();
    assert!((1..=last).contains(&event.id), "{event:?}");
}

/// Left to wait there: whichever test comes next on this worker sees whether that was undone.
#[dagz::test]
async fn events_may_stay_unheard(app: TestApp, broker: Broker) {
    app.paid_order(2).await;
    broker.events.tell(&app.pool, 0).await.unwrap();
}

#[dagz::test]
async fn a_quiet_shop_tells_nothing(app: TestApp, broker: Broker) {
    broker.events.tell(&app.pool, 0).await.unwrap();
    assert_eq!(broker.events.next(NEWSLETTER).await.unwrap(), None);
    assert_eq!(broker.events.next(POST_ROOM).await.unwrap(), None);
}
