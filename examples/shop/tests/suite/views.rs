//! What visitors saw: the last first, each visitor's own, and gone when they want it.

use crate::history::History;

#[dagz::test]
async fn the_last_view_comes_first(history: History) {
    for product in [7, 3, 5] {
        history.views.saw("ada", product).await.unwrap();
    }
    assert_eq!(history.views.last("ada", 2).await.unwrap(), [5, 3]);
}

#[dagz::test]
async fn visitors_see_their_own_views_only(history: History) {
    history.views.saw("ada", 7).await.unwrap();
    history.views.saw("grace", 8).await.unwrap();
    assert_eq!(history.views.last("grace", 10).await.unwrap(), [8]);
}

#[dagz::test]
async fn who_wants_it_is_forgotten(history: History) {
    history.views.saw("ada", 7).await.unwrap();
    history.views.saw("grace", 8).await.unwrap();
    history.views.forget("ada").await.unwrap();
    assert!(history.views.last("ada", 10).await.unwrap().is_empty());
    assert_eq!(history.views.count().await.unwrap(), 1);
}

/// Counts everybody's: one view of another test would be seen.
#[dagz::test]
async fn all_views_are_those_of_this_test(history: History) {
    assert_eq!(history.views.count().await.unwrap(), 0);
    for visitor in ["ada", "grace", "edsger"] {
        history.views.saw(visitor, 1).await.unwrap();
    }
    assert_eq!(history.views.count().await.unwrap(), 3);
}
