"""The targets by name: functions of any bytes that must return.

Whatever one of them raises is a finding: an error that is not documented, or an AssertionError for
a promise that did not hold.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz import (
    blocks_and_trees,
    database_pages,
    deltas,
    guix_dialogues,
    guix_formats,
    http_doors,
    local_network,
    pins,
    settings,
    status_facts,
)

__all__ = ["TARGETS", "Target"]

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        guix_formats.narinfo,
        guix_formats.nar,
        guix_formats.expression,
        guix_formats.keys,
        guix_formats.access_list,
        guix_formats.signature,
        guix_formats.decompression,
        guix_formats.guix_texts,
        guix_formats.item_list,
        guix_formats.cache_info,
        guix_formats.nix_conf,
        guix_formats.item_map,
        guix_dialogues.commands,
        guix_dialogues.replies,
        guix_dialogues.kept_narinfo,
        guix_dialogues.http_answers,
        guix_dialogues.encoded_bodies,
        guix_dialogues.server_urls,
        guix_dialogues.proxies,
        guix_dialogues.retry_after,
        guix_dialogues.worker,
        guix_dialogues.item_table,
        guix_dialogues.publisher_record,
        guix_dialogues.mirror_record,
        guix_dialogues.proxy_urns,
        blocks_and_trees.capability,
        blocks_and_trees.node,
        blocks_and_trees.bundle,
        blocks_and_trees.link,
        blocks_and_trees.block_list,
        blocks_and_trees.eris_fs_index,
        blocks_and_trees.packed_index,
        blocks_and_trees.packed_sections,
        blocks_and_trees.pack,
        deltas.delta,
        deltas.delta_sections,
        blocks_and_trees.coap_frames,
        blocks_and_trees.coap_connection,
        blocks_and_trees.list_pages,
        blocks_and_trees.store_url,
        local_network.network_entry,
        local_network.netlink,
        local_network.found_service,
        http_doors.http_targets,
        http_doors.http_places,
        pins.pin_answers,
        pins.pin_requests,
        database_pages.database_page,
        settings.settings_file,
        settings.toml_lines,
        settings.database_url,
        settings.store_group,
        status_facts.daemon_facts,
    )
}
