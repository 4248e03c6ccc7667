package vault

// Actions of audit entries. The list is closed; [Actions] has it.
const (
	ActionSet               = "set_integration_credentials"
	ActionCreate            = "create_integration_credentials"
	ActionRead              = "read_integration_credentials"
	ActionRemove            = "remove_integration_credentials"
	ActionTest              = "test_integration_credentials"
	ActionStatus            = "get_integration_status"
	ActionDetails           = "get_credential"
	ActionList              = "list_credentials"
	ActionUpdate            = "update_credential"
	ActionVersions          = "list_credential_versions"
	ActionRollback          = "rollback_credential"
	ActionUsage             = "get_credential_usage"
	ActionWatch             = "watch_credentials"
	ActionGetIntegration    = "get_integration"
	ActionListIntegrations  = "list_integrations"
	ActionRegister          = "register_integration"
	ActionUpdateIntegration = "update_integration"
	ActionCreateKey         = "create_api_key"
	ActionListKeys          = "list_api_keys"
	ActionRevokeKey         = "revoke_api_key"
	ActionListAudit         = "list_audit_log"
	ActionVerifyAudit       = "verify_audit_log"
	ActionInit              = "initialise_vault"
	ActionCreateEnvKey      = "create_environment_key"
	ActionExport            = "export_credential_record"
	ActionRestore           = "restore_credential"
	ActionPurge             = "purge_credential"
	ActionSync              = "sync_integration_credentials"
	ActionListSyncs         = "list_integration_syncs"
	ActionRetrySync         = "retry_integration_sync"
	ActionListPlugins       = "list_plugins"
	ActionRotateKey         = "rotate_environment_key"
	ActionShowRotation      = "get_environment_rotation"
	ActionRotateRoot        = "rotate_root_recipient"
	ActionShareEnvironment  = "share_environment"
	ActionUnshare           = "unshare_environment"
	ActionBackup            = "backup_vault"
	ActionRestoreVault      = "restore_vault"
	ActionProfile           = "profile_process"
)

// Actions returns every action that an audit entry can have.
func Actions() []string {
	return []string{
		ActionSet, ActionCreate, ActionRead, ActionRemove,
		ActionTest, ActionStatus, ActionDetails, ActionList,
		ActionUpdate, ActionVersions, ActionRollback, ActionUsage,
		ActionWatch, ActionGetIntegration, ActionListIntegrations, ActionRegister,
		ActionUpdateIntegration, ActionCreateKey, ActionListKeys, ActionRevokeKey,
		ActionListAudit, ActionVerifyAudit, ActionInit, ActionCreateEnvKey,
		ActionExport, ActionRestore, ActionPurge, ActionSync,
		ActionListSyncs, ActionRetrySync, ActionListPlugins,
		ActionRotateKey, ActionShowRotation, ActionRotateRoot, ActionShareEnvironment, ActionUnshare,
		ActionBackup, ActionRestoreVault, ActionProfile,
	}
}

// Outcomes returns every outcome that an audit entry can have.
func Outcomes() []string {
	outcomes := []string{OutcomeSuccess}
	for _, k := range Kinds() {
		outcomes = append(outcomes, k.String())
	}
	return outcomes
}
