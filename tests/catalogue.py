"""What of optax's public names gradtx has not, and how it differs in those it has.

Each entry has its reason. `test_catalogue.py` fails where one is missing, and where
one is no longer needed.
"""

NOT_OURS = {
    "losses": """
        convex_kl_divergence cosine_distance cosine_similarity ctc_loss
        ctc_loss_with_forward_probs generalized_kl_divergence hinge_loss huber_loss
        kl_divergence l2_loss log_cosh ntxent safe_softmax_cross_entropy
        sigmoid_binary_cross_entropy sigmoid_focal_loss smooth_labels
        softmax_cross_entropy softmax_cross_entropy_with_integer_labels squared_error
    """,
    "what one does with updates and parameters, the same for either library's": """
        incremental_update periodic_update tree_map_params
    """,
    "how gradients are computed": "microbatch scale_gradient",
    "perturbations": "multi_normal",
    "linear algebra": "matrix_inverse_pth_root nnls power_iteration",
    "arithmetic of states that gradtx's engine does once": """
        safe_increment safe_norm safe_root_mean_squares update_infinity_moment
        update_moment update_moment_per_elem_norm
    """,
    "deprecated in optax": """
        InjectStatefulHyperparamsState global_norm inject_stateful_hyperparams
        optimistic_adam safe_int32_increment
    """,
    "another name of a type": "MultiTransformState",
    "pairs of parameters: gradtx's lookahead takes plain ones": "LookaheadParams",
    "what `inject_hyperparams` makes of a schedule": "WrappedSchedule",
    "types and protocols, for annotations": """
        ConditionFn GradientTransformationExtraArgs MaskOrFn OptState Params
        ShouldSkipUpdateFunction StatefulSchedule TransformInitFn
        TransformUpdateExtraArgsFn TransformUpdateFn Updates
    """,
    "states: gradtx's is a flat dict": """
        AdaptiveGradClipState AddDecayedWeightsState AddNoiseState ApplyEvery
        ApplyIfFiniteState COCOBState ClipByGlobalNormState ClipState
        ConditionallyMaskState ConditionallyTransformState DAdaptAdamWState
        DifferentiallyPrivateAggregateState DoGState DoWGState EmaState
        EmptyState FactoredState GaLoreState HutchinsonState
        InjectHyperparamsState LookaheadState MadgradState MaskedNode MuonState
        MaskedState MechanicState MomoAdamState MomoState MonitorState
        MultiStepsState NonNegativeParamsState NormalizeState PartitionState
        ProdigyState ReduceLROnPlateauState SAMState ScaleByAdaDeltaState
        ScaleByAdamState ScaleByAdanState ScaleByAdemamixState
        ScaleByAmsgradState ScaleByBacktrackingLinesearchState
        ScaleByBeliefState ScaleByLBFGSState ScaleByLionState
        ScaleByNovogradState ScaleByRStdDevState ScaleByRmsState
        ScaleByRpropState ScaleByRssState ScaleBySM3State ScaleByScheduleState
        ScaleBySimplifiedAdEMAMixState ScaleByTrustRatioState
        ScaleByZoomLinesearchState ScaleState ScheduleFreeState SnapshotState
        SophiaState SplitRealAndImaginaryState TraceState ZeroNansState
        ZoomLinesearchInfo init_empty_state
    """,
}
"""Public names of optax that gradtx leaves to it, by the reason."""

MORE_ARGUMENTS = {
    "torch's variant of the rule": {
        "dampening": "sgd trace",
        "delayed": "rprop scale_by_rprop",
        "max_before_correction": "amsgrad scale_by_amsgrad",
        "momentum_decay": "nadam",
    },
}
"""Keyword-only arguments that optax lacks, by the reason."""

OTHER_SIGNATURES = {
    "GradientTransformation": "is also made of a factory and its arguments",
    "bias_correction": "is a primitive here; optax's corrects one moment",
}
"""Names whose signatures have nothing in common, each with the reason."""

REFUSES_SCHEDULES = {
    "only `init` reads it": {
        "initial": "loss_scale",
        "initial_accumulator_value": "adagrad ftrl scale_by_ftrl scale_by_rss "
        "scale_by_yogi",
        "initial_scale": "centered_second_moment rmsprop scale_by_rms scale_by_stddev",
        "initial_value": "running_sum scale_by_ema second_moment sign_average",
        "init_step": "dog scale_by_dog",
        "init_estim_sq_dist": "dowg scale_by_dowg",
        "reps_rel": "scale_by_distance_over_gradients",
        "learning_rate": "rprop scale_by_rprop",
        "eps": "cocob scale_by_cocob",
        "estim_lr0": "dadapt_adamw scale_by_dadapt_adam",
    },
    "a schedule is made of it, the warmup": {
        "learning_rate": "schedule_free_adamw schedule_free_sgd",
        "warmup_steps": "schedule_free_adamw schedule_free_sgd",
    },
}
"""Numbers that take no schedule, by the reason, with their transformations."""

READ_OTHERWISE = {
    "a schedule is made of it, the warmup": {
        "learning_rate": "schedule_free_adamw schedule_free_sgd",
    },
    "changes only what is printed": {
        "print_win_rate_every_n_steps": "scale_by_sophia sophia",
    },
}
"""Numbers that `update` reads and that take no schedule, or the other way round."""

NO_NUMBERS = {
    "fixes the shapes of slots, or the program": {
        "memory_size": "lbfgs scale_by_lbfgs",
        "min_dim_size_to_factor": "adafactor scale_by_factored_rms",
        "num_betas": "mechanize",
        "ns_steps": "muon scale_by_muon",
        "rank": "galore scale_by_galore",
        "sync_period": "sam",
    },
}
"""Arguments that are numbers in optax and structure here, by the reason."""

TABLES = {
    "polynomials, which fix the program": {"ns_coeffs": "muon scale_by_muon"},
}
"""Arguments that hold constants, by the reason; they check themselves."""
