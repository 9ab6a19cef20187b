"""agent.toml: what is refused in it, what of it is cut, and what a change means for an agent that runs."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.agent_toml import FILE_MAX, LIVE, AgentFile, changes, effective, in_words, parse
from hyperhive.config import AgentConfig, Budget, Limits, McpServer, Network, Tools, parse_size
from hyperhive.errors import BadConfig

EXAMPLE = """
model = "sonnet"
prompt = "You keep the parser fast."
network = "none"                 # none | out | host
packages = ["ripgrep"]
env = {LOG = "debug"}
[mcp.tracker]
command = "tracker-mcp"
args = []
allowedTools = ["list_*"]
[tools]
allow = ["Bash", "Edit"]
deny = []
ask = ["WebFetch"]
"""


def test_the_example_of_the_specification_is_read() -> None:
    file = parse(EXAMPLE.encode())
    assert (file.model, file.network, file.packages) == ("sonnet", "none", ("ripgrep",))
    assert file.mcp["tracker"] == McpServer(command="tracker-mcp", allowedTools=("list_*",))
    assert file.tools == Tools(allow=("Bash", "Edit"), ask=("WebFetch",))


def test_no_file_and_an_empty_one_change_nothing() -> None:
    operator = AgentConfig(model="opus", prompt="p", packages=("git",))
    for data in (None, b"", b"# nothing\n"):
        assert effective(operator, parse(data)).config == operator


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("modle = 'x'", "agent.toml:1: modle: unknown key"),
        ("\nmodel = 3", "agent.toml:2: model: expected text, not a whole number"),
        ("model = ''", "agent.toml:1: model: expected text of at least 1 characters"),
        ("model = 'a b'", "agent.toml:1: model: expected text such as sonnet"),
        ("account = 'x'", "agent.toml:1: account: is the operator's alone: it stands in hive.toml"),
        ("x = 1\n[limits]\npids = 9", "agent.toml:2: limits: is the operator's alone"),
        (
            "[[mounts]]\nsource = '/'\ntarget = '/workspace/x'",
            "agent.toml:1: mounts: is the operator's alone",
        ),
        ("harness = 'own'", "agent.toml:1: harness: is the operator's alone"),
        ("network = 'all'", "agent.toml:1: network: 'all' is none of none, out, host"),
        ("packages = 'git'", "agent.toml:1: packages: expected a list, not text"),
        ("packages = ['git; rm']", "agent.toml:1: packages: [0]: expected text such as ripgrep"),
        ("packages = ['--help']", "agent.toml:1: packages: [0]: expected text such as ripgrep"),
        ("[env]\nLOG = 1", "agent.toml:2: env.LOG: expected text, not a whole number"),
        ("[env]\n\nLD_PRELOAD = 'x'", "agent.toml:3: env.LD_PRELOAD: is set by the hive itself"),
        ("env = {http_proxy = 'x'}", "env.http_proxy: is set by the hive itself"),
        ("env = {ANTHROPIC_API_KEY = 'x'}", "env.ANTHROPIC_API_KEY: is set by the hive itself"),
        ("env = {'A=B' = 'x'}", "env.A=B: no name of a variable"),
        ("[mcp.tracker]\nargs = []", "agent.toml:1: mcp.tracker.command: missing"),
        ("[mcp.tracker]\ncommand = ''", "agent.toml:2: mcp.tracker.command: is empty"),
        ("[mcp.hyperhive]\ncommand = 'x'", "agent.toml:1: mcp.hyperhive: is the hive's own server"),
        ("[mcp.a__b]\ncommand = 'x'", "agent.toml:1: mcp.a__b: a server's name has"),
        ("[mcp.'a b']\ncommand = 'x'", "mcp.a b: a server's name has"),
        ("[tools]\nallow = 'Bash'", "agent.toml:2: tools.allow: expected a list, not text"),
        ("[tools]\nallowed = []", "agent.toml:2: tools.allowed: unknown key"),
        ("pids = 0", "agent.toml:1: pids: expected a whole number of at least 1"),
        ("cpu = -1", "agent.toml:1: cpu: expected a number above 0"),
        ("memory = '4 GB'", "agent.toml:1: memory: expected text such as 16M or 4G"),
        ("budget = {tokens_per_day = -5}", "budget.tokens_per_day: expected a whole number of at least 1"),
        ("model = ", "agent.toml: Invalid value"),
        ("a = " + "[" * 5000, "agent.toml: "),
        ("model = 'a'\nmodel = 'b'", "agent.toml: Cannot overwrite a value"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_reason(text: str, fault: str) -> None:
    with pytest.raises(BadConfig) as caught:
        parse(text)
    assert any(fault in one for one in caught.value.faults), caught.value.faults


def test_one_error_lists_every_fault() -> None:
    with pytest.raises(BadConfig) as caught:
        parse("account = 'x'\nmodle = 'y'\npids = 0\n[env]\nPATH = '/'\n")
    assert [one.split(":")[1] for one in caught.value.faults] == ["1", "2", "3", "5"]


def test_bytes_that_are_no_text_and_a_huge_file_are_refused() -> None:
    with pytest.raises(BadConfig, match=r"agent\.toml:2: is no UTF-8"):
        parse(b"model = 'x'\n\xff")
    with pytest.raises(BadConfig, match="longer than"):
        parse(b"#" * (FILE_MAX + 1))


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_input_raises_anything_but_our_error(data: bytes | str) -> None:
    with suppress(BadConfig):
        assert isinstance(parse(data), AgentFile)


# --- with the operator's settings ----------------------------------------------------------------------------------


def test_the_file_goes_before_the_operators_defaults() -> None:
    operator = AgentConfig(
        model="opus",
        prompt="old",
        env={"A": "1", "B": "1"},
        mcp={"x": McpServer(command="x")},
        account="work",
    )
    file = AgentFile(model="sonnet", prompt="new", env={"B": "2"}, mcp={"y": McpServer(command="y")})
    config = effective(operator, file).config
    assert (config.model, config.prompt, config.account) == ("sonnet", "new", "work")
    assert config.env == {"A": "1", "B": "2"}
    assert set(config.mcp) == {"x", "y"}


@pytest.mark.parametrize(
    ("wanted", "limits", "given_network"),
    [
        ("host", ("none", "out"), "out"),
        ("host", ("none",), "none"),
        ("out", ("host",), "none"),
        ("out", ("none", "out"), "out"),
        ("none", ("out",), "none"),
        ("host", (), "none"),
    ],
)
def test_a_network_is_never_wider_than_the_limits(
    wanted: Network, limits: tuple[Network, ...], given_network: Network
) -> None:
    result = effective(AgentConfig(limits=Limits(network=limits)), AgentFile(network=wanted), "alice")
    assert result.config.network == given_network
    assert bool(result.cuts) is (wanted != given_network)
    assert all("[agents.alice.limits]" in cut for cut in result.cuts)


def test_numbers_are_the_smaller_allow_lists_what_is_in_both_and_the_rest_is_said() -> None:
    operator = AgentConfig(
        limits=Limits(
            memory="2G",
            pids=100,
            send_to=("bob", "manager"),
            packages=("git",),
            budget=Budget(tokens_per_day=1000),
            tools=Tools(allow=("Bash(git:*)", "Read"), deny=("WebSearch",), ask=("Edit",)),
        ),
        tools=Tools(deny=("Write",)),
    )
    file = AgentFile(
        memory="3072M",
        pids=50,
        send_to=("bob", "eve"),
        packages=("git", "jq"),
        budget=Budget(tokens_per_day=5000, tokens_per_hour=10),
        tools=Tools(allow=("Bash", "Read(/x)", "WebFetch"), deny=("LSP",), ask=("Bash",)),
    )
    result = effective(operator, file, "alice")
    config = result.config
    assert (config.limits.memory, config.limits.pids, config.limits.send_to) == ("2G", 50, ("bob",))
    assert config.packages == ("git",)
    assert (config.budget.tokens_per_day, config.budget.tokens_per_hour) == (1000, 10)
    assert config.tools.allow == ("Read(/x)", "Bash(git:*)")
    assert set(config.tools.deny) == {"Write", "LSP", "WebSearch"}
    assert set(config.tools.ask) == {"Bash", "Edit"}
    assert {cut.split(":")[0] for cut in result.cuts} == {
        "memory", "send_to", "packages", "budget.tokens_per_day", "tools.allow",
    }  # fmt: skip


NETWORKS: tuple[Network, ...] = ("none", "out", "host")
sizes = st.integers(1, 64).map(lambda n: f"{n}G")
names = st.lists(st.sampled_from(["bob", "carol", "dora"]), unique=True).map(tuple)


@given(
    st.builds(
        Limits,
        network=st.lists(st.sampled_from(NETWORKS), unique=True).map(tuple),
        memory=sizes,
        pids=st.integers(1, 1000),
        cpu=st.floats(0.1, 8),
        send_to=st.none() | names,
        packages=st.none() | names,
        budget=st.builds(Budget, tokens_per_day=st.none() | st.integers(1, 100)),
        tools=st.builds(Tools, allow=st.none() | names, deny=names),
    ),
    st.builds(
        AgentFile,
        network=st.none() | st.sampled_from(NETWORKS),
        memory=st.none() | sizes,
        pids=st.none() | st.integers(1, 1000),
        cpu=st.none() | st.floats(0.1, 8),
        send_to=st.none() | names,
        packages=st.none() | names,
        budget=st.builds(Budget, tokens_per_day=st.none() | st.integers(1, 100)),
        tools=st.builds(Tools, allow=st.none() | names, deny=names),
    ),
)
def test_no_file_lifts_a_limit(limits: Limits, file: AgentFile) -> None:
    config = effective(AgentConfig(limits=limits), file).config
    assert config.network in (None, "none", *limits.network)
    assert parse_size(config.limits.memory) <= parse_size(limits.memory)
    assert config.limits.pids <= limits.pids
    assert config.limits.cpu <= limits.cpu
    if limits.send_to is not None:
        assert config.limits.send_to is not None
        assert set(config.limits.send_to) <= set(limits.send_to)
    if limits.packages is not None:
        assert set(config.packages) <= set(limits.packages)
    if limits.budget.tokens_per_day is not None and config.budget.tokens_per_day is not None:
        assert config.budget.tokens_per_day <= limits.budget.tokens_per_day
    if limits.tools.allow is not None:
        assert config.tools.allow is not None
        assert set(config.tools.allow) <= set(limits.tools.allow)
    assert set(config.tools.deny) >= {*limits.tools.deny, *file.tools.deny}
    assert (config.mounts, config.account) == ((), "default")


# --- what a change means --------------------------------------------------------------------------------------------


def test_the_model_is_taken_over_live_and_the_prompt_by_a_restart() -> None:
    old = AgentConfig(model="opus")
    changed = changes(old, AgentConfig(model="sonnet", prompt="x", limits=Limits(send_to=("bob",), pids=5)))
    assert changed == {"model": "live", "prompt": "restart", "pids": "restart", "send_to": "live"}
    assert in_words(changed) == [
        "taken over while it runs: model, send_to",
        "taken by a restart between two turns: prompt, pids",
    ]
    assert changes(old, old) == {}
    assert in_words({}) == ["nothing changes for the running agent"]


def test_every_key_of_the_file_is_a_setting_whose_change_is_seen() -> None:
    known = {*AgentConfig.__struct_fields__, *Limits.__struct_fields__}
    assert set(AgentFile.__struct_fields__) <= known
    assert known >= LIVE
