//! One suite of scenarios, run on the in-memory store in virtual time and on a real etcd: what both
//! must do alike. Then what only a real etcd can show: dead, hung and restarted servers.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what is not as expected fails the test"
)]

mod access;
mod elections;
mod faults;
mod keys;
mod leases;
mod outages;
mod relay;
mod server;
mod transactions;
mod watches;
mod world;

/// Each scenario becomes a test of either store.
macro_rules! scenarios {
    ($($module:ident: $($name:ident),+;)+) => {
        mod memory {
            $($(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    crate::$module::$name(&mut crate::world::World::in_memory()).await;
                }
            )+)+
        }
        mod etcd {
            $($(
                #[tokio::test]
                async fn $name() {
                    crate::$module::$name(&mut crate::world::World::on_etcd().await).await;
                }
            )+)+
        }
    };
}

scenarios! {
    keys:
        a_missing_key_is_an_empty_listing_at_the_revision_of_now,
        a_key_shows_its_value_and_revisions,
        a_listing_holds_exactly_the_prefix_in_key_order,
        a_listing_of_many_pages_is_of_one_revision,
        a_listing_of_keys_has_no_values;
    transactions:
        compares_decide_whether_anything_is_written,
        all_writes_of_a_transaction_share_one_revision,
        a_transaction_that_changes_nothing_makes_no_revision,
        a_prefix_is_deleted_with_everything_below_it,
        writes_pass_a_fence_that_holds,
        writes_of_a_former_leader_are_fenced_off,
        a_failed_compare_behind_a_good_fence_is_not_called_fenced,
        a_transaction_too_large_is_refused_before_anything_is_written,
        the_largest_transaction_is_taken,
        a_key_cannot_be_written_twice_in_a_transaction;
    watches:
        a_watch_shows_every_change_after_its_revision_in_order,
        a_watch_shows_only_its_prefix,
        changes_of_one_transaction_come_together,
        a_watch_from_the_past_catches_up_without_a_gap,
        a_watch_from_a_compacted_revision_says_so,
        a_watch_that_is_up_to_date_outlives_compaction,
        a_source_lists_then_watches_without_values;
    leases:
        a_lease_that_nobody_renews_takes_its_keys_along,
        a_renewed_lease_lives_on,
        a_revoked_lease_takes_its_keys_along_at_once,
        a_lease_that_is_gone_is_told_so,
        a_key_written_without_the_lease_stays;
    elections:
        the_second_candidate_wins_when_the_first_resigns,
        the_second_candidate_wins_when_the_first_dies,
        a_key_that_no_lease_ends_is_freed,
        a_leader_whose_key_is_deleted_has_lost,
        a_candidate_stops_waiting_at_shutdown,
        leadership_is_kept_while_it_is_renewed;
    faults:
        without_space_puts_and_leases_are_refused_and_all_else_goes_on,
        a_file_beyond_its_quota_is_as_good_as_the_alarm,
        without_space_a_leader_keeps_its_lease_and_nobody_else_wins,
        a_restored_store_has_the_keys_the_history_and_the_revision_of_its_backup,
        leases_of_a_backup_begin_anew_and_later_ones_are_unknown,
        a_watch_that_saw_less_than_the_backup_goes_on,
        a_watch_that_saw_more_than_the_backup_says_that_the_store_went_back,
        a_watch_from_a_revision_that_never_was_is_refused,
        a_leader_that_won_after_the_backup_has_lost,
        a_leader_that_won_before_the_backup_leads_on,
        a_compaction_under_a_watch_that_reads_on_costs_it_nothing;
}
