"""Deploys: how an approved commit comes to be what an agent runs, and how a bad one does not."""

from hyperhive.lifecycle.deploy.configs import Configs
from hyperhive.lifecycle.deploy.deployer import Deployer
from hyperhive.lifecycle.deploy.inputs import MetaInputs
from hyperhive.lifecycle.deploy.ports import Stage
from hyperhive.lifecycle.deploy.updates import Updates

__all__ = ["Configs", "Deployer", "MetaInputs", "Stage", "Updates"]
