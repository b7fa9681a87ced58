-- Failed messages by the time they were opened: the list of messages finds them however rare they are.
-- The condition names `failed_at` and not `status`: only a failure touches this index, every other change stays cheap.
CREATE INDEX current_status_failed ON current_status (account, channel, opened_at DESC, message_id DESC)
    WHERE failed_at IS NOT NULL AND linked_to IS NULL;
