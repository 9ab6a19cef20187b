# An ordinary agent's container: the harness's, and the agent's own config repo to read.
{ hyperhiveAgent, ... }:
{
  environment.sessionVariables.HIVE_CONFIG = "/agents/${hyperhiveAgent.name}/config";
}
