"""Addresses of each page that the browser looks at; names are those of the demo."""

from sync.simulator.timeline import CENTOS_7_6, ROCKY_9_3

EXAMPLES: dict[str, tuple[str, ...]] = {
    "overview": ("",),
    "timeline": ("", "?instance_type=ecs.c7.large&region=*", "?os_tag=Rocky*&region=*"),
    "matrix": ("", "?region=cn-shanghai&os_tag=CentOS*"),
    "image": (f"?image={ROCKY_9_3}", f"?image={CENTOS_7_6}&region=cn-hangzhou"),
    "type": ("?instance_type=ecs.c7.large&region=cn-hangzhou", "?instance_type=ecs.c2.large&region=cn-shanghai"),
    "changes": ("", "?kind=removed"),
    "compare": ("",),
    "search": ("?q=rocky", "?q=nothing-has-this-name"),
}
"""The queries by the name of the page; the first one shows the page at its best."""
