"""The names that recipes know, and the classes behind them."""

from __future__ import annotations

from collections.abc import Mapping

TASKS: Mapping[str, str] = {
    "anomaly": "qanas.tasks.anomaly:Anomaly",
    "audio": "qanas.tasks.audio:Audio",
    "detection": "qanas.tasks.detection:Detection",
    "images": "qanas.tasks.images:Images",
    "segmentation": "qanas.tasks.segmentation:Segmentation",
    "timeseries": "qanas.tasks.timeseries:TimeSeries",
    "turbofan": "qanas.tasks.turbofan:Turbofan",
}
SPACES: Mapping[str, str] = {
    "autoencoder": "qanas.networks.autoencoder:AutoencoderSpace",
    "cells": "qanas.networks.cells:CellSpace",
    "conv1d": "qanas.networks.conv1d:Conv1DSpace",
    "deeplabv3": "qanas.networks.deeplabv3:DeepLabV3Space",
    "dense": "qanas.networks.dense:DenseSpace",
    "ds_cnn": "qanas.networks.ds_cnn:DSCNNSpace",
    "fastestdet": "qanas.networks.fastestdet_space:FastestDetSpace",
    "growing": "qanas.networks.growing:GrowingSpace",
    "gru": "qanas.networks.gru:GRUSpace",
    "lstm": "qanas.networks.lstm:LSTMSpace",
    "mobilenet": "qanas.networks.mobilenet:MobileNetSpace",
    "multi_branch": "qanas.networks.multi_branch:MultiBranchSpace",
    "random_wiring": "qanas.networks.random_wiring:RandomWiringSpace",
    "resnet": "qanas.networks.resnet:ResNetSpace",
    "tcn": "qanas.networks.tcn:TCNSpace",
}
STRATEGIES: Mapping[str, str] = {
    "dna": "qanas.search_strategy.solvers:DNATraversal",
    "evolution": "qanas.search_strategy.evolution:Evolution",
    "exact": "qanas.search_strategy.solvers:ExactSearch",
    "gp": "qanas.search_strategy.samplers:GP",
    "gradient": "qanas.search_strategy.gradient:GradientSearch",
    "hill_climbing": "qanas.search_strategy.growing:HillClimbing",
    "lemonade": "qanas.search_strategy.growing:Lemonade",
    "morphism_bo": "qanas.search_strategy.morphism_bo:MorphismBO",
    "nsga2": "qanas.search_strategy.samplers:NSGA2",
    "random": "qanas.search_strategy.samplers:RandomSearch",
    "reinforce": "qanas.search_strategy.reinforce:Reinforce",
    "size_aware": "qanas.search_strategy.size_aware:SizeAware",
    "tpe": "qanas.search_strategy.samplers:TPE",
}
ESTIMATORS: Mapping[str, str] = {
    "block_tables": "qanas.performance_estimation.block_tables:BlockTables",
    "early_stopping": "qanas.performance_estimation.stopped_training:EarlyStopping",
    "learning_curve": "qanas.performance_estimation.stopped_training:LearningCurves",
    "predictor": "qanas.performance_estimation.predictor:Predictor",
    "proxies": "qanas.performance_estimation.proxies:Proxies",
    "training": "qanas.performance_estimation.training:Training",
    "weight_sharing": "qanas.performance_estimation.weight_sharing:WeightSharing",
}
REGISTRIES: Mapping[str, Mapping[str, str]] = {
    "task": TASKS,
    "space": SPACES,
    "teacher": SPACES,
    "strategy": STRATEGIES,
    "estimation": ESTIMATORS,
}
"""The registry of each table that names a component."""

OWN_TABLES: Mapping[str, str] = {
    **dict.fromkeys(("teacher", "blocks", "distillation", "table", "score"), "block_tables"),
    "supernet": "weight_sharing",
}
"""Tables that one estimator alone reads: a recipe that has them, and names no estimator, means that one."""
