"""What a cluster of EC2 machines needs: a security group, and settings with their defaults.

The group has the original's name and rules, so that both programs use the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from reflow.core.errors import Kind, ReflowError
from reflow.runtime.setup_call import CallError, Cloud

GROUP = "reflow"
ANYWHERE = "0.0.0.0/0"
WORKER_PORT, SSH_PORT = 9000, 22

_DESCRIPTION = "security group automatically created by reflow"
_TAGS = [{"Key": "reflow-sg", "Value": "true"}, {"Key": "Name", "Value": GROUP}]
_DISK_GIB = 300
_DEFAULTS: dict[str, Any] = {
    "maxpendinginstances": 5,
    "maxhourlycostusd": 10,
    "disktype": "gp3",
    "diskslices": 0,
    "ami": "",
    "sshkeys": [],
    "keyname": "",
    "cloudconfig": {},
}

Group = dict[str, Any]


def instance_types() -> list[str]:
    """The names of all types that a cluster may use, in order."""
    import yaml

    table = yaml.safe_load(files("reflow.runtime").joinpath("setup_types.yaml").read_text("utf-8"))
    return sorted(f"{family}.{size}" for family, sizes in table.items() for size in sizes.split())


def section(present: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The settings of a cluster: what is there stays, what is missing is set to its default."""
    filled = {**_DEFAULTS, **{key: value for key, value in present.items() if value not in (None, "")}}
    types = instance_types()
    sizes = {name.partition(".")[2] for name in types}
    filled["instancesizetodiskspace"] = filled.get("instancesizetodiskspace") or dict.fromkeys(
        sorted(sizes), _DISK_GIB
    )
    filled["instancetypes"] = filled.get("instancetypes") or types
    filled["securitygroup"] = group
    return filled


def rules(network: str, source: str) -> list[dict[str, Any]]:
    """What may come in: everything from the own network, SSH and workers' calls from ``source``."""
    inside = {"IpProtocol": "-1", "FromPort": 0, "ToPort": 0, "IpRanges": [{"CidrIp": network}]}
    return [inside] + [
        {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": source}]}
        for port in (SSH_PORT, WORKER_PORT)
    ]


def lets_workers_answer(group: Group) -> bool:
    """Whether some rule lets calls to workers in."""
    return any(
        rule.get("IpProtocol") == "-1" or rule.get("FromPort", 0) <= WORKER_PORT <= rule.get("ToPort", -1)
        for rule in group.get("IpPermissions") or []
    )


def ensure_group(cloud: Cloud, source: str = ANYWHERE) -> str:
    """The id of the security group; made if it is not there. Says what it does.

    May be repeated after any failure. Raises ReflowError.
    """
    group = _find(cloud)
    if group is None:
        cloud.say("no existing reflow security group found; creating new")
        group = _make(cloud)
        is_new = True
    else:
        cloud.say(f"found existing reflow security group {group['GroupId']}")
        is_new = False
    if not group.get("IpPermissions"):
        _authorize(cloud, group, source)
    elif not lets_workers_answer(group):
        text = f"no rule lets tcp port {WORKER_PORT} in: add one, or delete the group and run this again"
        raise ReflowError(Kind.PRECONDITION, "security group", group["GroupId"], cause=text)
    if group.get("Description") == _DESCRIPTION:
        _tag(cloud, group)
    if is_new:
        cloud.say(f"created security group {group['GroupId']}")
    return str(group["GroupId"])


def _call(cloud: Cloud, operation: str, **parameters: Any) -> dict[str, Any]:
    try:
        return cloud.call("ec2", operation, **parameters)
    except CallError as err:
        raise ReflowError(err.kind, "security group", GROUP, cause=err) from err


def _find(cloud: Cloud) -> Group | None:
    wanted = [{"Name": "group-name", "Values": [GROUP]}]
    found = _call(cloud, "describe_security_groups", Filters=wanted).get("SecurityGroups") or []
    return found[0] if found else None


def _network(cloud: Cloud, vpc: str = "") -> dict[str, Any]:
    """The default network, or the one named. Raises ReflowError when there is none."""
    if vpc:
        found = _call(cloud, "describe_vpcs", VpcIds=[vpc])["Vpcs"]
    else:
        found = _call(cloud, "describe_vpcs", Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"]
    if len(found) != 1:
        text = (
            f"the account has {len(found) or 'no'} default VPCs in {cloud.region}, want one: make it (aws ec2"
            " create-default-vpc), or write securitygroup and subnets into the section ec2cluster yourself"
        )
        raise ReflowError(Kind.PRECONDITION, "security group", GROUP, cause=text)
    network: dict[str, Any] = found[0]
    return network


def _make(cloud: Cloud) -> Group:
    vpc = _network(cloud)["VpcId"]
    cloud.say(f"found default VPC {vpc}")
    try:
        made = cloud.call(
            "ec2", "create_security_group", GroupName=GROUP, Description=_DESCRIPTION, VpcId=vpc
        )
    except CallError as err:
        group = _find(cloud) if err.code == "InvalidGroup.Duplicate" else None
        if group is None:
            raise ReflowError(err.kind, "security group", GROUP, cause=err) from err
        return group
    return {"GroupId": made["GroupId"], "VpcId": vpc, "Description": _DESCRIPTION}


def _authorize(cloud: Cloud, group: Group, source: str) -> None:
    network = _network(cloud, str(group.get("VpcId") or ""))["CidrBlock"]
    cloud.say(f"authorizing ingress traffic for security group {group['GroupId']}")
    try:
        cloud.call(
            "ec2",
            "authorize_security_group_ingress",
            GroupId=group["GroupId"],
            IpPermissions=rules(network, source),
        )
    except CallError as err:
        if err.code != "InvalidPermission.Duplicate":
            raise ReflowError(err.kind, "security group", group["GroupId"], cause=err) from err


def _tag(cloud: Cloud, group: Group) -> None:
    """Tag a group of ours; doing without is no reason to fail."""
    have = {tag.get("Key"): tag.get("Value") for tag in group.get("Tags") or []}
    if all(have.get(tag["Key"]) == tag["Value"] for tag in _TAGS):
        return
    cloud.say(f"tagging security group {group['GroupId']}")
    try:
        cloud.call("ec2", "create_tags", Resources=[group["GroupId"]], Tags=_TAGS)
    except CallError as err:
        cloud.say(f"note: tag security group {group['GroupId']}: {err}")
